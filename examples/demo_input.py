"""Print the path of the demo's input: a real chest radiograph (CR) of the package pydicom-data."""

from pydicom.data import get_testdata_file

path = get_testdata_file("RG1_UNCR.dcm")
if path is None:
    raise SystemExit("RG1_UNCR.dcm is missing: install the extra, pip install 'radserve[demo]'")
print(path)
