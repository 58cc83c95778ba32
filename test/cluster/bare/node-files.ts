/** Owns the configuration files of one node's containerd, kubelet, kube-proxy and pod network. Pure texts. */
import path from 'node:path';
import type { Instance, NodePlace } from './instance.ts';
import { nodeRoutes } from './network.ts';

/** The image of the process that holds a pod's namespaces. */
export const PAUSE_IMAGE = 'slm-operator.local/pause:1';

/** What the files need to know beside the node's place. */
export interface NodeFileInputs {
  readonly instance: Instance;
  readonly place: NodePlace;
  /** The authority's certificate. */
  readonly authorityFile: string;
  /** Folder of the network plugins. */
  readonly cni: string;
  readonly runc: string;
}

/** File name in the node's folder → text. */
export function nodeFiles(inputs: NodeFileInputs): Record<string, string> {
  const { instance, place } = inputs;
  return {
    'containerd.toml': containerdConfig(inputs),
    'cni/10-slm.conflist': json({
      cniVersion: '1.0.0',
      name: 'slm',
      plugins: [
        {
          type: 'bridge',
          bridge: 'cni0',
          isGateway: true,
          ipMasq: false,
          hairpinMode: true,
          ipam: {
            type: 'host-local',
            // In /run: a node that lost its power has no pods, and so no address is taken.
            dataDir: '/run/cni-addresses',
            ranges: [[{ subnet: place.podRange }]],
            routes: [{ dst: '0.0.0.0/0' }],
          },
        },
        { type: 'portmap', capabilities: { portMappings: true }, snat: true, backend: 'nftables' },
      ],
    }),
    'kubelet.json': json({
      apiVersion: 'kubelet.config.k8s.io/v1beta1',
      kind: 'KubeletConfiguration',
      // A kubelet from 1.35 on refuses the old control groups unless told otherwise.
      failCgroupV1: false,
      failSwapOn: false,
      cgroupDriver: 'cgroupfs',
      cgroupRoot: `/${instance.cgroup}/${place.name}`,
      containerRuntimeEndpoint: 'unix:///run/containerd/containerd.sock',
      authentication: {
        anonymous: { enabled: false },
        webhook: { enabled: true },
        x509: { clientCAFile: inputs.authorityFile },
      },
      authorization: { mode: 'Webhook' },
      clusterDNS: [instance.dnsAddress],
      clusterDomain: 'cluster.local',
      // Empty: the cluster's DNS has nobody to ask beyond itself.
      resolvConf: path.join(place.folder, 'resolv.conf'),
      // A node is lost after 8 s (see the controller manager's flags), so it reports every 2.
      nodeStatusUpdateFrequency: '2s',
      nodeStatusReportFrequency: '30s',
      nodeLeaseDurationSeconds: 8,
      // Images come from a file and could not be pulled again: never collect them.
      imageGCHighThresholdPercent: 100,
      evictionHard: {
        'memory.available': '100Mi',
        'nodefs.available': '1%',
        'imagefs.available': '1%',
        'nodefs.inodesFree': '1%',
      },
      maxPods: 110,
    }),
    'kube-proxy.json': json({
      apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
      kind: 'KubeProxyConfiguration',
      mode: 'nftables',
      clusterCIDR: instance.podRange,
      hostnameOverride: place.name,
      clientConnection: { kubeconfig: path.join(place.folder, 'kube-proxy.kubeconfig') },
      // Zero leaves the machine's connection tracking as it is; inside of a network namespace it could not be set.
      conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
    }),
    'resolv.conf': '',
    routes: `${nodeRoutes(instance, place).join('\n')}\n`,
  };
}

function containerdConfig({ place, cni, runc }: NodeFileInputs): string {
  const cri = (part: string) => `plugins.'io.containerd.cri.v1.${part}'`;
  return `version = 4
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp", "io.containerd.nri.v1.nri"]

[grpc]
address = "/run/containerd/containerd.sock"

[${cri('images')}]
snapshotter = "overlayfs"

[${cri('images')}.pinned_images]
sandbox = "${PAUSE_IMAGE}"

[${cri('runtime')}]
enable_selinux = false
# Root without CAP_SYS_RESOURCE, as in many virtual machines and containers, cannot lower its score.
restrict_oom_score_adj = true

[${cri('runtime')}.cni]
bin_dirs = ["${cni}"]
conf_dir = "${path.join(place.folder, 'cni')}"

[${cri('runtime')}.containerd]
default_runtime_name = "runc"

[${cri('runtime')}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[${cri('runtime')}.containerd.runtimes.runc.options]
BinaryName = "${runc}"
SystemdCgroup = false
`;
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}
