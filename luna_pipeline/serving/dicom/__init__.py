"""DICOM in and out: CT series arrive by C-STORE and become jobs; results leave by C-STORE or STOW-RS."""
