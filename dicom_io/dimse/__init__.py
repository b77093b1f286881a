"""DICOM message exchange (PS3.7, PS3.8): C-ECHO, C-STORE, C-FIND, C-MOVE, C-GET and storage commitment, on asyncio.

pynetdicom's PDU classes encode and decode the association negotiation. What follows it is read here: pynetdicom reads a
PDU of any announced length into memory, waits for it without an end, shakes hands for TLS inside its accept loop, and
takes most of the time of a C-STORE that is only to be written down.
"""
