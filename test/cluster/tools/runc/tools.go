//go:build tools

// Pins the packages that are built from this module.
package tools

import (
	_ "github.com/opencontainers/runc"
)
