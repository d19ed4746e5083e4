"""Arrays into files of every kind, by the libraries themselves."""

import h5py
import numpy as np
import pytest
import tifffile

zarr = pytest.importorskip("zarr", "3")


def tiff(path, array, axes):
    tifffile.imwrite(path, array, photometric="minisblack", metadata={"axes": axes})


def plain_tiff(path, array, axes):
    del axes  # a page per image, and no word about them
    tifffile.imwrite(path, array, photometric="minisblack", metadata=None)


def big_tiff(path, array, axes):
    metadata = {"axes": axes}
    tifffile.imwrite(path, array, bigtiff=True, photometric="minisblack", metadata=metadata)


def zlib_tiff(path, array, axes):
    metadata = {"axes": axes}
    tifffile.imwrite(
        path, array, compression="zlib", photometric="minisblack", metadata=metadata, tile=(16, 16)
    )


def ome_tiff(path, array, axes):
    tifffile.imwrite(path, array, ome=True, photometric="minisblack", metadata={"axes": axes})


def imagej_tiff(path, array, axes):
    tifffile.imwrite(path, array, imagej=True, metadata={"axes": axes})


def npy(path, array, axes):
    np.save(path, array)


def fortran_npy(path, array, axes):
    np.save(path, np.asfortranarray(array))


def raw(path, array, axes):
    array.tofile(path)


def hdf5(path, array, axes):
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("entry/data", data=array, chunks=True, compression="gzip")
        for axis, letter in zip(dataset.dims, axes, strict=True):
            axis.label = letter.lower()


def plain_hdf5(path, array, axes):
    with h5py.File(path, "w") as file:
        file["entry/data"] = array
        file["entry/angles"] = np.zeros(3)


def zarr3(path, array, axes):
    names = tuple(axes.lower())
    store = zarr.create_array(path, shape=array.shape, dtype=array.dtype, dimension_names=names)
    store[...] = array


def zarr2(path, array, axes):
    store = zarr.create_array(path, shape=array.shape, dtype=array.dtype, zarr_format=2)
    store[...] = array


def ome_zarr(path, array, axes):
    group = zarr.create_group(path)
    group.create_array("0", shape=array.shape, dtype=array.dtype)[...] = array
    group.create_array("1", shape=(2, 2), dtype="uint8")
    described = {"axes": [{"name": name} for name in axes.lower()], "datasets": [{"path": "0"}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [described]}
