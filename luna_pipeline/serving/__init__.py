"""The service: CTs in by HTTP, page and DICOM; nodules out as files, SEG and SR. Research use only."""
