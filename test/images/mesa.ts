/**
 * Owns what the Vulkan image brings beside the engine: the loader and Mesa's drivers for AMD and Intel GPUs, of Debian 13, because older
 * ones do not know the GPUs of recent years; and that release's C library, which they are linked to.
 */
import path from 'node:path';
import { type DebianPins, debianFolder } from './debian.ts';
import { type Entry, file, text } from './entries.ts';
import { closure } from './shared-libraries.ts';

/** Where Debian keeps libraries; the same in the image. */
export const LIBRARIES = 'usr/lib/x86_64-linux-gnu';
/** Drivers that the loader finds on its own. */
const DRIVERS = { radeon: 'AMD', intel: 'Intel', intel_hasvk: 'Intel before 2015' } as const;
/**
 * Mesa's driver that computes on the CPU. Not among those that are found: whoever wants it, such as a test, names its file in
 * VK_DRIVER_FILES.
 */
export const SOFTWARE_DRIVER = 'usr/share/vulkan/software/lvp_icd.json';

export const mesaPins: DebianPins = {
  suite: 'trixie',
  snapshot: '20261123T000000Z',
  packages: {
    libatomic1: { version: '14.2.0-19', sha256: '212b399aae2f7299203d261a57e49372e09565a9a5ea971905f94a3960366c05' },
    'gcc-14-base': { version: '14.2.0-19', sha256: '5b6825de4263824b78c4c51f6476414f3b4e89c2ab63e81dc8b9b5501e867cf6' },
    libbsd0: {
      version: '0.12.2-2',
      sha256: 'e5a85986fa6bec3307ab1bc860736b478b331882bc45e17675a7bdf88eecb43a',
    },
    libc6: {
      version: '2.41-12+deb13u5',
      sha256: 'b59b0625cd1a791375d40dab23a4d5d3d0641e3d0a773501becdc3725b7f99cf',
    },
    'libdrm-amdgpu1': {
      version: '2.4.124-2',
      sha256: 'c1d97a5e32e2bc68e833b8abeae026b6306198e87ee4396a7ffecd4779caefbf',
    },
    'libdrm-common': {
      version: '2.4.124-2',
      sha256: '9a8a6c65c165e9964f106fb4ac710959b5d33e0790227e3ab6b27c4742d1254a',
    },
    libdrm2: {
      version: '2.4.124-2',
      sha256: 'fe2276901c7cd7b8079de63072d37fe1cbeb4eb001a3bc1f1d662ad89aa0890e',
    },
    libedit2: {
      version: '3.1-20250104-1',
      sha256: 'b002ea172b9c1e34a67bc497c523c67bb74c3f0a4e98113cb083990a1f1d3bfe',
    },
    libelf1t64: {
      version: '0.192-4',
      sha256: '94497b7e17b6f574a0605b380d454e20d3f01a9c63b70c2a2263f679d30053e1',
    },
    libexpat1: {
      version: '2.9.0-1~deb13u1',
      sha256: 'feff874772cae904ae4d24e917b35664952bec4b4ae9100a4edda5a7fa746832',
    },
    libffi8: {
      version: '3.4.8-2',
      sha256: '0ebdc340de33333639c3c63874cd4b15ac2e83dfa1ef3053b7eefaf4919f4f68',
    },
    'libgcc-s1': {
      version: '14.2.0-19',
      sha256: '3c71917b490d1a17aed43196a2787a256ecf060526cdb20216a74bedc061b150',
    },
    libgomp1: {
      version: '14.2.0-19',
      sha256: '72b7a1a33c48f3195efeb044111b34ae684b1e640bb6495c832443b798601cd5',
    },
    libllvm19: {
      version: '1:19.1.7-3+b1',
      sha256: 'db0d614d61345ca710fb73e75105f1ec6e38898fa7b3aa99fa7eb7d8b0a11d57',
    },
    liblzma5: {
      version: '5.8.1-1+deb13u2',
      sha256: 'b38acab30f295bf1066a6632e31cbd0a1980f2924b38040cda131d5dea5384ec',
    },
    libmd0: {
      version: '1.1.0-2+b1',
      sha256: '7244ec3839b61fac0c1884fe08aaa040f26e8f1f35f1f5d3482eacefd30d1b44',
    },
    'libstdc++6': {
      version: '14.2.0-19',
      sha256: 'ab1fa05837aa7a92aae748fd07a18a35f7d18bb4a71c4724fe2bbf0e32089de0',
    },
    libtinfo6: {
      version: '6.5+20250216-2',
      sha256: '8b9f6a7983e9418564e48a627518de4c03917b56efe68d7f3e93bd8fffa1cc10',
    },
    libvulkan1: {
      version: '1.4.309.0-1',
      sha256: 'f47da79cd140264fe21cceb08bc87a71bc7fec05819e4a421f3f518d21101a37',
    },
    'libwayland-client0': {
      version: '1.23.1-3',
      sha256: 'd1607e1db1a7c5378a2e5c6ae7b20f64dc6acf134f953d84a7f5204b74339f33',
    },
    'libx11-xcb1': {
      version: '2:1.8.12-1',
      sha256: 'e05f94d21a932fba5b09b9b13d99df776b155d3bc792c0e294451df9ffe1ba25',
    },
    libxau6: {
      version: '1:1.0.11-1',
      sha256: '689a9f0e0ba3e2c65431f864871e303ee904de69dd28abfc462663fae030227f',
    },
    'libxcb-dri3-0': {
      version: '1.17.0-2+b1',
      sha256: 'f446d42fb5fcebbb3e347368ba83616769fdb271d85b2f49048e337f3163d267',
    },
    'libxcb-present0': {
      version: '1.17.0-2+b1',
      sha256: 'db95ea4630c55bd7f3281cb60ccf75b1627ef2f4399e1939f8f6161e584a92fb',
    },
    'libxcb-randr0': {
      version: '1.17.0-2+b1',
      sha256: 'f5d9fe5fdf797918f81f0abf6cfd4270bd54659540cddb4da709ab7154523214',
    },
    'libxcb-shm0': {
      version: '1.17.0-2+b1',
      sha256: 'd1777a813f484e89f3dcaadd1d5f2b1a13e9313b6bf70eded16d8ce743208fef',
    },
    'libxcb-sync1': {
      version: '1.17.0-2+b1',
      sha256: '0ce4770ed1505be9ddc6473045e4662d062aff2f3077ee684265f01cfb543559',
    },
    'libxcb-xfixes0': {
      version: '1.17.0-2+b1',
      sha256: 'f9c1aafc18bf9e4662e34bbaf3bb00f1f4e8c2fc1dd786fdfb6cb9cb6c64fae7',
    },
    libxcb1: {
      version: '1.17.0-2+b1',
      sha256: '5c222a72d11b866447da31693254f738430726e3e065a384e82687b2fd2f978b',
    },
    libxdmcp6: {
      version: '1:1.1.5-1',
      sha256: '0740dc760916b2008b45417a42a8fd7dd5de370fb57d31373f15034cda8acf0b',
    },
    libxml2: {
      version: '2.12.7+dfsg+really2.9.14-2.1+deb13u3',
      sha256: 'e0c6b63ce4602a036a526f60fe5e6c1586710688058d98fc1001b9b3147b7efd',
    },
    libxshmfence1: {
      version: '1.3.3-1',
      sha256: '7b339e9e5b2349723d35af4df89bcc7aa456bbdf8ba1754358f9b44c3fe1f964',
    },
    'libz3-4': {
      version: '4.13.3-1',
      sha256: '71383373523ef62d47eccf660cf6535c3febcbb3f88e54cb7a43124014b57359',
    },
    libzstd1: {
      version: '1.5.7+dfsg-1',
      sha256: '2f6a2aeacfc925eba8b00ac9139bc4bfccf8cacb09eb93de067074b26948eef9',
    },
    'mesa-vulkan-drivers': {
      version: '25.0.7-2+deb13u1',
      sha256: 'caf2f7d296b7522efe74e40a74bce762a3ce84c33b53b5e54e1248ac2e0a13a5',
    },
    zlib1g: {
      version: '1:1.3.dfsg+really1.3.1-1+deb13u1',
      sha256: '8c27c342230503b73dfde629642c3b352e87b554e06d60cf58772f236a305ceb',
    },
  },
};

/** The parts of the Vulkan image that are Debian's. */
export interface MesaParts {
  /** The C and C++ library, and what else the programs of the base are linked to. */
  readonly base: readonly Entry[];
  readonly mesa: readonly Entry[];
}

/**
 * @param programs files that run on this C library in the image: Node, add-ons, backends
 * @throws UserError when the packages cannot be had
 */
export async function mesaParts(programs: readonly string[]): Promise<MesaParts> {
  const root = await debianFolder(mesaPins);
  const folder = path.join(root, LIBRARIES);
  const library = (name: string) => path.join(folder, name);
  const drivers = [...Object.keys(DRIVERS), 'lvp'].map((name) => `libvulkan_${name}.so`);
  const base = [
    // The engine is linked to the loader, which belongs to what comes after.
    ...(await closure(programs, [folder], LIBRARIES)).filter((entry) => !entry.path.includes('libvulkan')),
    file('usr/lib64/ld-linux-x86-64.so.2', library('ld-linux-x86-64.so.2'), 0o755),
    notice(root, 'libc6'),
    notice(root, 'libgomp1', 'gcc-14-base'),
  ];
  const there = new Set(base.map((entry) => entry.path));
  const roots = ['libvulkan.so.1', ...drivers].map(library);
  const linked = await closure(roots, [folder], LIBRARIES);
  const own = [
    ...['libvulkan.so.1', ...drivers].map((name) => file(`${LIBRARIES}/${name}`, library(name), 0o755)),
    ...Object.keys(DRIVERS).map((name) =>
      manifest(root, `${name}_icd.json`, `usr/share/vulkan/icd.d/${name}_icd.json`),
    ),
    manifest(root, 'lvp_icd.json', SOFTWARE_DRIVER),
    ...['share/drirc.d/00-radv-defaults.conf', 'share/libdrm/amdgpu.ids'].map((name) =>
      file(`usr/${name}`, path.join(root, 'usr', name)),
    ),
    notice(root, 'mesa-vulkan-drivers'),
    notice(root, 'libllvm19'),
    text('usr/share/doc/packages.txt', packageList(mesaPins)),
  ];
  return { base, mesa: [...linked.filter((entry) => !there.has(entry.path)), ...own] };
}

const manifest = (root: string, name: string, at: string) => file(at, path.join(root, 'usr/share/vulkan/icd.d', name));
const notice = (root: string, name: string, from = name) =>
  file(`usr/share/doc/${name}/copyright`, path.join(root, 'usr/share/doc', from, 'copyright'));

function packageList({ suite, packages }: DebianPins): string {
  return `Of Debian ${suite}, source at https://snapshot.debian.org:\n${Object.entries(packages)
    .map(([name, { version }]) => `${name} ${version}\n`)
    .join('')}`;
}
