// Prints the stages by which kwok plays kubelets, as its module brings them: kwok reads them as its configuration.
package main

import (
	"fmt"
	"strings"

	nodeready "sigs.k8s.io/kwok/kustomize/stage/node/fast"
	nodelease "sigs.k8s.io/kwok/kustomize/stage/node/heartbeat-with-lease"
	pods "sigs.k8s.io/kwok/kustomize/stage/pod/fast"
)

func main() {
	fmt.Println(strings.Join([]string{
		nodeready.DefaultNodeInit,
		nodelease.DefaultNodeHeartbeatWithLease,
		pods.DefaultPodReady,
		pods.DefaultPodComplete,
		pods.DefaultPodDelete,
	}, "\n---\n"))
}
