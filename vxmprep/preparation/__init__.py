"""From a scan to a brain on the atlas's network grid: mask, bias field, affine, conform."""
