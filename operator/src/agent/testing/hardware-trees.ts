/**
 * Made-up sysfs, procfs and /dev of nodes with devices of each maker, in the kernel's layout, as folders that HostFiles reads.
 * Never used in production.
 */
import { mkdir, mkdtemp, rm, symlink, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type HostFiles, makeHostFiles } from '../devices/host-files.ts';

/** Path below the root → text of the file; `{ link }` makes a symbolic link. */
export type HardwareTree = Readonly<Record<string, string | { readonly link: string }>>;

export interface PciCard {
  readonly address: string;
  /** As the kernel writes it, such as 0x030200. */
  readonly class: string;
  /** VENDOR:DEVICE. */
  readonly ids: string;
  readonly driver?: string;
  /** Further files below its folder. */
  readonly files?: Readonly<Record<string, string>>;
}

/** A PCI function in sysfs. */
export function pciTree(card: PciCard): HardwareTree {
  const at = `sys/bus/pci/devices/${card.address}`;
  const [vendor, device] = card.ids.split(':');
  return {
    [`${at}/class`]: `${card.class}\n`,
    [`${at}/vendor`]: `0x${vendor}\n`,
    [`${at}/device`]: `0x${device}\n`,
    ...(card.driver === undefined ? {} : { [`${at}/driver`]: { link: `../../../bus/pci/drivers/${card.driver}` } }),
    ...Object.fromEntries(Object.entries(card.files ?? {}).map(([name, content]) => [`${at}/${name}`, content])),
  };
}

/** Things that every server has, and on which no model is computed. */
export const ordinaryServer: HardwareTree = {
  ...pciTree({ address: '0000:00:00.0', class: '0x060000', ids: '8086:0d57' }),
  ...pciTree({ address: '0000:00:1f.6', class: '0x020000', ids: '8086:15fb', driver: 'e1000e' }),
  ...pciTree({
    address: '0000:02:00.0',
    class: '0x030000',
    ids: '1a03:2000',
    driver: 'ast',
    files: { 'drm/card0/dev': '226:0' },
  }),
};

/** A node of temporary files. */
export interface FakeNode extends AsyncDisposable {
  readonly host: HostFiles;
  add(tree: HardwareTree): Promise<void>;
  remove(at: string): Promise<void>;
}

export async function makeFakeNode(tree: HardwareTree): Promise<FakeNode> {
  const root = await mkdtemp(path.join(tmpdir(), 'slm-hardware-'));
  const node: FakeNode = {
    host: makeHostFiles({ sys: path.join(root, 'sys'), proc: path.join(root, 'proc'), dev: path.join(root, 'dev') }),
    async add(more) {
      for (const [at, content] of Object.entries(more)) {
        const target = path.join(root, at);
        await mkdir(path.dirname(target), { recursive: true });
        if (typeof content === 'string') await writeFile(target, content);
        else {
          await unlink(target).catch(() => undefined);
          await symlink(content.link, target);
        }
      }
    },
    remove: (at) => rm(path.join(root, at), { recursive: true }),
    [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }),
  };
  await node.add(tree);
  return node;
}
