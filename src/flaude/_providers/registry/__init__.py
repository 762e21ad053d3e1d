"""What a registry says about an image: names, manifests, and the few requests that read them."""
