"""Operations of single layers that write into memory of the caller, or span processes."""
