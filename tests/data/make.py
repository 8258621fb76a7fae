"""make -- files of the reference libraries, for tests/test_npy.c and tests/test_safetensors.c.

    python tests/data/make.py

It needs numpy and safetensors, and writes into tests/data of the folder it is started in.

fortran.npy       i4 [2, 3, 4] in Fortran order, element (i, j, k) is 100 i + 10 j + k
scalar.npy        f8 [], -0.1
reference.safetensors
    "b.weight"    F32 [2, 3]: 0, 0.5, 1, ...       "b.count"  I64 []: 1 << 40
    "a"           U8 [3]: 7, 0, 255                "empty"    F64 [0, 5]
    "mask"        BOOL [2]: false, true            and metadata {"format": "np"}
"""
import numpy as np
from safetensors.numpy import save_file

FOLDER = "tests/data/"

i, j, k = np.indices((2, 3, 4), dtype="<i4")
np.save(FOLDER + "fortran.npy", np.asfortranarray(100 * i + 10 * j + k))
np.save(FOLDER + "scalar.npy", np.array(-0.1))
save_file(
    {
        "b.weight": np.arange(6, dtype="<f4").reshape(2, 3) / 2,
        "b.count": np.array(1 << 40, dtype="<i8"),
        "a": np.array([7, 0, 255], dtype="u1"),
        "empty": np.zeros((0, 5)),
        "mask": np.array([False, True]),
    },
    FOLDER + "reference.safetensors",
    metadata={"format": "np"},
)
