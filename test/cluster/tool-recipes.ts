/**
 * Owns the table of the cluster's programs: which module or source each comes from and how it is compiled.
 * Pure data; `tools.ts` acts on it.
 */

/** Kubernetes' version, as `tools/hyperkube/go.mod` pins it. */
export const KUBERNETES_VERSION = 'v1.37.2';

const HYPERKUBE = [
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kubelet',
  'kube-proxy',
  'kubectl',
] as const;

/** Everything that {@link ToolName} can name, by the recipe that makes it. */
export const BINARIES = {
  hyperkube: HYPERKUBE,
  etcd: ['etcd'],
  containerd: ['containerd', 'containerd-shim-runc-v2', 'ctr'],
  cni: ['bridge', 'host-local', 'loopback', 'portmap'],
  runc: ['runc'],
  coredns: ['coredns'],
  pause: ['pause'],
  probe: ['probe'],
  'dra-driver': ['dra-driver'],
  kwok: ['kwok', 'kwok-stages'],
  kind: ['kind'],
  helm: ['helm'],
} as const satisfies Record<string, readonly string[]>;

/** One thing that is built at a time; its programs lie in one folder. */
export type RecipeName = keyof typeof BINARIES;

/** One compiler call. */
export interface Compilation {
  /** Go package, or the C file. */
  readonly source: string;
  readonly output: string;
  readonly tags?: string;
  readonly ldflags?: string;
}

/** How one recipe is built. */
export interface Recipe {
  readonly name: RecipeName;
  /** Folder under `tools/` with the sources. */
  readonly folder: string;
  readonly language: 'go' | 'c';
  readonly cgo?: boolean;
  readonly compilations: readonly Compilation[];
  /** Further names of the first output, as links. */
  readonly links?: readonly string[];
  /** CPU seconds from an empty cache, measured once; only for telling what is left. */
  readonly cost: number;
  /** Debian packages that the build needs, each with a path that shows it is there. */
  readonly packages?: Readonly<Record<string, readonly string[]>>;
}

const GCC = { gcc: ['/usr/bin/gcc', '/usr/bin/cc'] };
const version = 'k8s.io/component-base/version';
const containerd = 'github.com/containerd/containerd/v2';
const cni = 'github.com/containernetworking/plugins/plugins';

/** All recipes, in the order in which they are built. */
export const RECIPES: readonly Recipe[] = [
  {
    name: 'etcd',
    folder: 'etcd',
    language: 'go',
    compilations: [{ source: '.', output: 'etcd' }],
    cost: 42,
  },
  {
    name: 'hyperkube',
    folder: 'hyperkube',
    language: 'go',
    compilations: [
      {
        source: '.',
        output: 'hyperkube',
        ldflags: `-X ${version}.gitVersion=${KUBERNETES_VERSION} -X ${version}.gitMajor=1 -X ${version}.gitMinor=37 -X ${version}.gitTreeState=clean`,
      },
    ],
    links: HYPERKUBE,
    cost: 771,
  },
  {
    name: 'containerd',
    folder: 'containerd',
    language: 'go',
    compilations: [
      {
        source: `${containerd}/cmd/containerd`,
        output: 'containerd',
        tags: 'urfave_cli_no_docs no_btrfs no_devmapper no_zfs osusergo netgo',
        ldflags: `-X ${containerd}/version.Version=v2.3.7`,
      },
      {
        source: `${containerd}/cmd/containerd-shim-runc-v2`,
        output: 'containerd-shim-runc-v2',
        tags: 'urfave_cli_no_docs no_grpc osusergo netgo',
      },
      { source: `${containerd}/cmd/ctr`, output: 'ctr', tags: 'urfave_cli_no_docs osusergo netgo' },
    ],
    cost: 96,
  },
  {
    name: 'cni',
    folder: 'containerd',
    language: 'go',
    compilations: [
      { source: `${cni}/main/bridge`, output: 'bridge' },
      { source: `${cni}/main/loopback`, output: 'loopback' },
      { source: `${cni}/ipam/host-local`, output: 'host-local' },
      { source: `${cni}/meta/portmap`, output: 'portmap' },
    ],
    cost: 4,
  },
  {
    name: 'runc',
    folder: 'runc',
    language: 'go',
    cgo: true,
    compilations: [
      {
        source: 'github.com/opencontainers/runc',
        output: 'runc',
        tags: 'seccomp osusergo netgo',
        ldflags: '-X main.version=1.3.6',
      },
    ],
    cost: 20,
    packages: {
      ...GCC,
      'libc6-dev': ['/usr/include/stdio.h'],
      'libseccomp-dev': ['/usr/include/seccomp.h'],
      'pkg-config': ['/usr/bin/pkg-config'],
    },
  },
  {
    name: 'coredns',
    folder: 'coredns',
    language: 'go',
    compilations: [{ source: '.', output: 'coredns' }],
    cost: 101,
  },
  {
    name: 'helm',
    folder: 'helm',
    language: 'go',
    compilations: [
      {
        source: 'helm.sh/helm/v4/cmd/helm',
        output: 'helm',
        ldflags: '-X helm.sh/helm/v4/internal/version.version=v4.3.1',
      },
    ],
    cost: 150,
  },
  {
    name: 'dra-driver',
    folder: 'dra-driver',
    language: 'go',
    compilations: [{ source: '.', output: 'dra-driver' }],
    cost: 90,
  },
  {
    name: 'kwok',
    folder: 'kwok',
    language: 'go',
    compilations: [
      { source: 'sigs.k8s.io/kwok/cmd/kwok', output: 'kwok' },
      { source: '.', output: 'kwok-stages' },
    ],
    cost: 126,
  },
  {
    name: 'kind',
    folder: 'kind',
    language: 'go',
    compilations: [{ source: 'sigs.k8s.io/kind', output: 'kind' }],
    cost: 7,
  },
  {
    name: 'probe',
    folder: 'probe',
    language: 'go',
    compilations: [{ source: '.', output: 'probe' }],
    cost: 15,
  },
  {
    name: 'pause',
    folder: 'pause',
    language: 'c',
    compilations: [{ source: 'pause.c', output: 'pause' }],
    cost: 1,
    packages: GCC,
  },
];
