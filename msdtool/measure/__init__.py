"""Measure outputs against targets: PSNR, SSIM, confusion matrix and what is made of them."""
