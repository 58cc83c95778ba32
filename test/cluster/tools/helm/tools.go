//go:build tools

// Pins the packages that are built from this module.
package tools

import (
	_ "helm.sh/helm/v4/cmd/helm"
)
