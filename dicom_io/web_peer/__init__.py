"""DICOMweb services of other systems (PS3.18), as their user agent: STOW-RS, QIDO-RS, WADO-RS, UPS-RS.

What a service answers is foreign: bounded in size, checked before use, and no redirect is followed.
"""
