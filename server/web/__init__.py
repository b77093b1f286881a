"""The HTTP services: DICOMweb, completion and health; and the listener they are served by."""
