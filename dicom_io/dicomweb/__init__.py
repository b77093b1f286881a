"""DICOMweb (PS3.18) over the study store: the parts that know DICOM and nothing of a web framework."""
