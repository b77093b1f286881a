"""What the requester knows of the patient, read from HL7 v2 messages and FHIR resources."""
