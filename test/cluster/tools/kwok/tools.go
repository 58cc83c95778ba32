//go:build tools

// Pins the packages that are built from this module.
package main

import (
	_ "sigs.k8s.io/kwok/cmd/kwok"
)
