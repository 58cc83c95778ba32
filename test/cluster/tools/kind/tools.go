//go:build tools

// Pins the packages that are built from this module.
package tools

import (
	_ "sigs.k8s.io/kind"
)
