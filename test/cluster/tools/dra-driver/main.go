// A driver for dynamic resource allocation (DRA) without hardware: it publishes the devices that a file lists, and prepares
// claims on them by the Container Device Interface, so that scheduler, kubelet and container runtime do all that they do with
// real devices. A container finds the names of its devices in the variable DRA_DEVICES. SIGHUP reads the file again.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/dynamic-resource-allocation/kubeletplugin"
	"k8s.io/dynamic-resource-allocation/resourceslice"
	cdi "tags.cncf.io/container-device-interface/specs-go"
)

type driver struct {
	name   string
	cdiDir string
}

func main() {
	name := flag.String("driver", "", "name of the driver, such as gpu.example.com")
	node := flag.String("node", "", "name of the node")
	devices := flag.String("devices", "", "file with a JSON list of resource.k8s.io/v1 devices")
	kubeconfig := flag.String("kubeconfig", "", "credentials of the node")
	cdiDir := flag.String("cdi", "/var/run/cdi", "where the container runtime looks for CDI files")
	flag.Parse()
	if err := run(*name, *node, *devices, *kubeconfig, *cdiDir); err != nil {
		log.Fatal(err)
	}
}

func run(name, node, devicesFile, kubeconfig, cdiDir string) error {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	reread := make(chan os.Signal, 1)
	signal.Notify(reread, syscall.SIGHUP)

	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	for _, folder := range []string{cdiDir, filepath.Join(kubeletplugin.KubeletPluginsDir, name)} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	helper, err := kubeletplugin.Start(ctx, &driver{name: name, cdiDir: cdiDir},
		kubeletplugin.DriverName(name),
		kubeletplugin.NodeName(node),
		kubeletplugin.KubeClient(client),
		kubeletplugin.HealthService(false),
	)
	if err != nil {
		return err
	}
	defer helper.Stop()
	for {
		if err := publish(ctx, helper, node, devicesFile); err != nil {
			return err
		}
		select {
		case <-reread:
		case <-ctx.Done():
			return nil
		}
	}
}

func publish(ctx context.Context, helper *kubeletplugin.Helper, node, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var devices []resourceapi.Device
	if err := json.Unmarshal(text, &devices); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	pool := resourceslice.Pool{Slices: []resourceslice.Slice{{Devices: devices}}}
	return helper.PublishResources(ctx, resourceslice.DriverResources{Pools: map[string]resourceslice.Pool{node: pool}})
}

// PrepareResourceClaims writes one CDI file for each claim.
func (d *driver) PrepareResourceClaims(_ context.Context, claims []*resourceapi.ResourceClaim) (map[types.UID]kubeletplugin.PrepareResult, error) {
	results := map[types.UID]kubeletplugin.PrepareResult{}
	for _, claim := range claims {
		results[claim.UID] = d.prepare(claim)
	}
	return results, nil
}

func (d *driver) prepare(claim *resourceapi.ResourceClaim) kubeletplugin.PrepareResult {
	var names []string
	var devices []kubeletplugin.Device
	id := fmt.Sprintf("%s/claim=%s", d.name, claim.UID)
	for _, result := range claim.Status.Allocation.Devices.Results {
		if result.Driver != d.name {
			continue
		}
		names = append(names, result.Device)
		devices = append(devices, kubeletplugin.Device{
			Requests:     []string{result.Request},
			PoolName:     result.Pool,
			DeviceName:   result.Device,
			CDIDeviceIDs: []string{id},
		})
	}
	edits := cdi.ContainerEdits{Env: []string{"DRA_DEVICES=" + strings.Join(names, ",")}}
	spec := cdi.Spec{
		Version: "0.6.0",
		Kind:    d.name + "/claim",
		Devices: []cdi.Device{{Name: string(claim.UID), ContainerEdits: edits}},
	}
	text, err := json.Marshal(spec)
	if err == nil {
		err = os.WriteFile(d.file(claim.UID), text, 0o644)
	}
	return kubeletplugin.PrepareResult{Devices: devices, Err: err}
}

// UnprepareResourceClaims removes the files again; one that is gone already is no error.
func (d *driver) UnprepareResourceClaims(_ context.Context, claims []kubeletplugin.NamespacedObject) (map[types.UID]error, error) {
	results := map[types.UID]error{}
	for _, claim := range claims {
		err := os.Remove(d.file(claim.UID))
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		results[claim.UID] = err
	}
	return results, nil
}

func (d *driver) file(claim types.UID) string {
	return filepath.Join(d.cdiDir, fmt.Sprintf("%s-%s.json", d.name, claim))
}

// HandleError gets what goes wrong while devices are published.
func (d *driver) HandleError(_ context.Context, err error, message string) {
	if errors.Is(err, kubeletplugin.ErrRecoverable) {
		log.Printf("%s: %v", message, err)
		return
	}
	log.Fatalf("%s: %v", message, err)
}

// WatchHealthStatus has nothing to tell: the service is switched off.
func (d *driver) WatchHealthStatus(context.Context, chan<- kubeletplugin.DeviceHealthReport) error {
	return kubeletplugin.ErrHealthNotSupported
}
