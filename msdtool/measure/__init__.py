"""Measure outputs against targets: PSNR, SSIM, confusion matrix, surfaces, how sure they are."""
