/**
 * Hardware profiles: what each kind of device is called by nodes, plugins and the server. Owns the built-in ones, how the
 * site's own are merged into them, and the sentences for bad ones. Pure; knows no node and no deployment.
 */
import { type HardwareClass, hardwareClasses, type Toleration } from '@slm-operator/crds';

/** A model format, as `SLMModel.status.metadata.format` has it. */
export type ModelFormat = 'GGUF' | 'ONNX';

/** How a pod claims a device by Dynamic Resource Allocation. */
export type DeviceClaim =
  /** A ResourceClaimTemplate that is in the deployment's namespace already. */
  | { readonly templateName: string }
  /** DeviceClasses; the operator makes the template: of one `exactly` that, of several the first that is available. */
  | { readonly deviceClasses: readonly string[] };

/** One kind of hardware. */
export interface HardwareProfile {
  readonly name: string;
  readonly class: HardwareClass;
  /** As the node agent's `devices[].vendor`. */
  readonly vendor?: string | undefined;
  /** Extended resources, the most usual first; `*` stands for any characters. Each makes a tier of its own. */
  readonly resources: readonly string[];
  readonly claim?: DeviceClaim | undefined;
  /** Labels of which one says that a node has such a device: `KEY` (any value but false) or `KEY=VALUE`. */
  readonly nodeLabels: readonly string[];
  /** Label with the memory of one device: a number of MiB, or a quantity such as 16G. */
  readonly memoryLabel?: string | undefined;
  /** Pods get these besides their own: taints that keep others away from such nodes. */
  readonly tolerations: readonly Toleration[];
  readonly runtimeClassName?: string | undefined;
  /** Groups of the host that may open the device's files, such as that of `render`; their numbers differ between distributions. */
  readonly supplementalGroups: readonly number[];
  /** Variant of the server image, or a whole reference (with a `/`); undefined: the site has to name one. */
  readonly image?: string | undefined;
  /** What the server is told to compute on (SLM_DEVICE). */
  readonly device: string;
  /** Formats that the server image computes on this device. */
  readonly formats: readonly ModelFormat[];
  /** Environment that the server gets besides its own. */
  readonly env: Readonly<Record<string, string>>;
  /** Why this cluster cannot use it: a sentence; see `claims.ts`. Not a setting. */
  readonly unusable?: string | undefined;
}

/** By name, in the order in which a class names them. */
export type Profiles = ReadonlyMap<string, HardwareProfile>;

/** Formats that a variant of the server image computes; those of whole references are for the site to say. */
const variantFormats: Readonly<Record<string, readonly ModelFormat[]>> = {
  cpu: ['GGUF', 'ONNX'],
  cuda: ['GGUF', 'ONNX'],
  cuda12: ['GGUF'],
  // ONNX models through WebGPU, which is Vulkan beneath.
  vulkan: ['GGUF', 'ONNX'],
  openvino: ['ONNX'],
};
const anyFormat: readonly ModelFormat[] = ['GGUF', 'ONNX'];

const nfd = 'feature.node.kubernetes.io';

type BuiltIn = Omit<HardwareProfile, 'name' | 'tolerations' | 'env' | 'formats' | 'supplementalGroups'> &
  Partial<Pick<HardwareProfile, 'tolerations' | 'env'>>;

const builtIn: Readonly<Record<string, BuiltIn>> = {
  nvidia: {
    class: 'gpu',
    vendor: 'nvidia',
    resources: ['nvidia.com/gpu', 'nvidia.com/gpu.shared', 'nvidia.com/mig-*'],
    nodeLabels: [
      'nvidia.com/gpu.present',
      `${nfd}/pci-10de.present`,
      `${nfd}/pci-0302_10de.present`,
      `${nfd}/pci-0300_10de.present`,
    ],
    memoryLabel: 'nvidia.com/gpu.memory',
    // What managed clusters and NVIDIA's own guide put on such nodes.
    tolerations: [{ key: 'nvidia.com/gpu', operator: 'Exists' }],
    image: 'cuda',
    device: 'gpu',
  },
  amd: {
    class: 'gpu',
    vendor: 'amd',
    resources: ['amd.com/gpu'],
    nodeLabels: ['amd.com/gpu.family', 'amd.com/gpu.vram', `${nfd}/pci-1002.present`, `${nfd}/pci-0300_1002.present`],
    memoryLabel: 'amd.com/gpu.vram',
    tolerations: [{ key: 'amd.com/gpu', operator: 'Exists' }],
    image: 'vulkan',
    device: 'gpu',
  },
  'intel-gpu': {
    class: 'gpu',
    vendor: 'intel',
    resources: ['gpu.intel.com/xe', 'gpu.intel.com/i915'],
    nodeLabels: ['intel.feature.node.kubernetes.io/gpu'],
    memoryLabel: 'gpu.intel.com/memory.max',
    tolerations: [
      { key: 'gpu.intel.com/xe', operator: 'Exists' },
      { key: 'gpu.intel.com/i915', operator: 'Exists' },
    ],
    image: 'vulkan',
    device: 'gpu',
  },
  'intel-npu': {
    class: 'npu',
    vendor: 'intel',
    resources: ['npu.intel.com/accel'],
    nodeLabels: ['intel.feature.node.kubernetes.io/npu'],
    tolerations: [{ key: 'npu.intel.com/accel', operator: 'Exists' }],
    image: 'openvino',
    device: 'npu',
  },
  qualcomm: {
    class: 'npu',
    vendor: 'qualcomm',
    resources: ['qualcomm.com/qaic'],
    nodeLabels: ['qualcomm.com/qaic', `${nfd}/pci-17cb.present`],
    tolerations: [{ key: 'qualcomm.com/qaic', operator: 'Exists' }],
    device: 'npu',
  },
  ascend: {
    class: 'npu',
    vendor: 'huawei',
    resources: ['huawei.com/Ascend310P', 'huawei.com/Ascend910'],
    nodeLabels: [`${nfd}/pci-19e5.present`, 'accelerator=huawei-Ascend310P', 'accelerator=huawei-Ascend910'],
    tolerations: [
      { key: 'huawei.com/Ascend310P', operator: 'Exists' },
      { key: 'huawei.com/Ascend910', operator: 'Exists' },
    ],
    device: 'npu',
  },
  cpu: { class: 'cpu', resources: [], nodeLabels: [], image: 'cpu', device: 'cpu' },
};

/** The order of a deployment that says nothing. */
export const defaultOrder: readonly string[] = hardwareClasses;

/** The built-in profiles. */
export function builtInProfiles(): Profiles {
  return new Map(
    Object.entries(builtIn).map(([name, profile]) => [
      name,
      { tolerations: [], supplementalGroups: [], env: {}, ...profile, name, formats: formatsOf(profile.image) },
    ]),
  );
}

/** True for an image reference; false for a variant's name. */
export function isImageReference(image: string): boolean {
  return image.includes('/') || image.includes(':');
}

function formatsOf(image: string | undefined): readonly ModelFormat[] {
  return (image === undefined ? undefined : variantFormats[image]) ?? anyFormat;
}

/**
 * The built-in profiles with the site's: fields of the same name are replaced, `false` or `null` takes a profile away, new
 * names come last. Throws an Error whose message names the key and says what to write.
 * @param text JSON object by profile name; empty for none
 * @param where what the text is called in messages
 * @param images variants of the server image that there are; undefined: any
 */
export function readProfiles(text: string | undefined, where: string, images?: readonly string[]): Profiles {
  const profiles = new Map(builtInProfiles());
  if (text === undefined || text.trim() === '') return profiles;
  for (const [name, value] of Object.entries(objectOf(parse(text, where), where))) {
    const at = `${where}: ${name}`;
    if (!/^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$/.test(name)) {
      throw new Error(`${at}: write lower-case letters, digits and dashes, at most 32`);
    }
    if (name !== 'cpu' && (hardwareClasses as readonly string[]).includes(name)) {
      throw new Error(`${at}: that is the name of a class; choose another for the profile`);
    }
    if (value === null || value === false) {
      if (name === 'cpu') throw new Error(`${at}: cannot be taken away; leave cpu out of hardware.order instead`);
      profiles.delete(name);
      continue;
    }
    const fields = fieldsOf(value, at);
    const { image } = fields;
    if (image !== undefined && images !== undefined && !isImageReference(image) && !images.includes(image)) {
      throw new Error(
        `${at}.image is "${image}": write one of ${images.join(', ')}, a whole reference such as registry/name:tag, or add the variant to serverImage.variants`,
      );
    }
    profiles.set(name, merged(name, profiles.get(name), fields, at));
  }
  return profiles;
}

type Fields = { -readonly [Key in keyof HardwareProfile]?: HardwareProfile[Key] };

function merged(name: string, known: HardwareProfile | undefined, own: Fields, at: string): HardwareProfile {
  const kind = own.class ?? known?.class;
  if (kind === undefined) throw new Error(`${at}: class is missing; write npu, gpu or cpu`);
  if (name === 'cpu' && kind !== 'cpu')
    throw new Error(`${at}: its class is cpu; give the device another profile name`);
  const image = own.image ?? known?.image;
  const profile: HardwareProfile = {
    tolerations: [],
    supplementalGroups: [],
    env: {},
    resources: [],
    nodeLabels: [],
    device: kind,
    ...known,
    ...own,
    name,
    class: kind,
    formats: own.formats ?? (own.image === undefined && known !== undefined ? known.formats : formatsOf(image)),
  };
  if (image === undefined && known === undefined) {
    throw new Error(`${at}: image is missing; write a variant such as cuda, or a whole image reference`);
  }
  const { claim, resources, nodeLabels } = profile;
  if (name !== 'cpu' && resources.length === 0 && claim === undefined && nodeLabels.length === 0) {
    throw new Error(`${at}: nothing says which nodes have it; write resources, claim or nodeLabels`);
  }
  if (claim !== undefined && own.resources !== undefined && resources.length > 0) {
    throw new Error(`${at}: resources and claim are two ways to the same device; leave one of them out`);
  }
  // A claim of the site's takes the place of the built-in resources.
  return claim === undefined ? profile : { ...profile, resources: [] };
}

/** What each field takes. */
const readers: {
  readonly [Key in Exclude<keyof HardwareProfile, 'name' | 'unusable'>]-?: (
    value: unknown,
    at: string,
  ) => HardwareProfile[Key];
} = {
  class: (value, at) => oneOf(hardwareClasses, value, at),
  vendor: word,
  resources: (value, at) =>
    listOf(value, at, (item, where) => {
      const resource = word(item, where);
      if (!/^[a-z0-9.-]+\/[A-Za-z0-9*._-]+$/.test(resource)) {
        throw new Error(`${where} is "${resource}": write DOMAIN/NAME, such as nvidia.com/gpu`);
      }
      return resource;
    }),
  claim: readClaim,
  nodeLabels: (value, at) => listOf(value, at, word),
  memoryLabel: word,
  tolerations: (value, at) => listOf(value, at, readToleration),
  runtimeClassName: word,
  supplementalGroups: (value, at) => listOf(value, at, groupId),
  image: word,
  device: word,
  formats: (value, at) => listOf(value, at, (item, where) => oneOf(anyFormat, item, where)),
  env: (value, at) =>
    Object.fromEntries(Object.entries(objectOf(value, at)).map(([name, item]) => [name, String(item)])),
};

function fieldsOf(value: unknown, at: string): Fields {
  const fields: Record<string, unknown> = {};
  for (const [key, inner] of Object.entries(objectOf(value, at))) {
    const reader = (readers as Record<string, ((value: unknown, at: string) => unknown) | undefined>)[key];
    if (reader === undefined) {
      throw new Error(`${at}.${key}: there is no such field; there are ${Object.keys(readers).join(', ')}`);
    }
    // null takes back a field that has no list or map: the profile has none then.
    if (inner !== null) fields[key] = reader(inner, `${at}.${key}`);
    else if (key === 'claim' || key === 'memoryLabel' || key === 'runtimeClassName') fields[key] = undefined;
    else throw new Error(`${at}.${key} is null: leave it out for the default, or write a value`);
  }
  return fields;
}

function readClaim(value: unknown, at: string): DeviceClaim {
  const { templateName, deviceClasses, ...rest } = objectOf(value, at);
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined || (templateName === undefined) === (deviceClasses === undefined)) {
    throw new Error(`${at}: write {templateName: NAME} or {deviceClasses: [NAME, …]}`);
  }
  if (templateName !== undefined) return { templateName: word(templateName, `${at}.templateName`) };
  const classes = listOf(deviceClasses, `${at}.deviceClasses`, word);
  // The API's own bound of firstAvailable.
  if (classes.length === 0 || classes.length > 8) throw new Error(`${at}.deviceClasses: write one to eight names`);
  return { deviceClasses: classes };
}

const tolerationKeys = ['key', 'operator', 'value', 'effect', 'tolerationSeconds'];

function readToleration(value: unknown, at: string): Toleration {
  const toleration = objectOf(value, at);
  const unknown = Object.keys(toleration).find((key) => !tolerationKeys.includes(key));
  if (unknown !== undefined) throw new Error(`${at}.${unknown}: a toleration has ${tolerationKeys.join(', ')}`);
  if (toleration['operator'] !== undefined) oneOf(['Exists', 'Equal'], toleration['operator'], `${at}.operator`);
  return toleration;
}

function parse(text: string, where: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new Error(`${where} is no JSON: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

function objectOf(value: unknown, at: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error(`${at}: write an object`);
  return value as Record<string, unknown>;
}

function listOf<T>(value: unknown, at: string, read: (item: unknown, at: string) => T): T[] {
  if (!Array.isArray(value)) throw new Error(`${at}: write a list`);
  return value.map((item: unknown, index) => read(item, `${at}[${index}]`));
}

function word(value: unknown, at: string): string {
  if (typeof value !== 'string' || value.trim() === '') throw new Error(`${at}: write a text that is not empty`);
  return value;
}

function groupId(value: unknown, at: string): number {
  if (!Number.isInteger(value) || Number(value) < 1)
    throw new Error(`${at}: write the number of a group, as getent group render prints`);
  return Number(value);
}

function oneOf<T extends string>(words: readonly T[], value: unknown, at: string): T {
  const found = words.find((candidate) => candidate === value);
  if (found === undefined) throw new Error(`${at} is ${JSON.stringify(value)}: write ${words.join(' or ')}`);
  return found;
}

/**
 * Server images by variant.
 * @param text JSON object; empty for none
 * @param where what the text is called in messages
 */
export function readImages(text: string | undefined, where: string): Readonly<Record<string, string>> {
  if (text === undefined || text.trim() === '') return {};
  return Object.fromEntries(
    Object.entries(objectOf(parse(text, where), where)).map(([variant, image]) => {
      if (!/^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$/.test(variant)) {
        throw new Error(`${where}: ${variant}: write lower-case letters, digits and dashes, at most 32`);
      }
      return [variant, word(image, `${where}: ${variant}`)];
    }),
  );
}

/**
 * An order such as `npu,gpu,cpu`: classes and profiles, the best first.
 * @param where what the text is called in messages
 */
export function readOrder(text: string | undefined, profiles: Profiles, where: string): readonly string[] {
  const names = (text ?? '')
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  if (names.length === 0) return defaultOrder;
  for (const name of names) {
    if (profiles.has(name) || (hardwareClasses as readonly string[]).includes(name)) continue;
    throw new Error(
      `${where} names "${name}": there are the classes ${hardwareClasses.join(', ')} and the profiles ${[...profiles.keys()].join(', ')}`,
    );
  }
  return [...new Set(names)];
}

/** The profiles that a class or a profile's name stands for; those that `order` names itself come first. */
export function expandName(name: string, profiles: Profiles, order: readonly string[]): readonly HardwareProfile[] {
  if (name !== 'cpu' && !(hardwareClasses as readonly string[]).includes(name)) {
    const profile = profiles.get(name);
    return profile === undefined ? [] : [profile];
  }
  const rank = (profile: HardwareProfile) => {
    // `cpu` in an order is the class, which the profile of that name belongs to.
    const at = profile.name === 'cpu' ? -1 : order.indexOf(profile.name);
    return at < 0 ? order.length : at;
  };
  return [...profiles.values()].filter((profile) => profile.class === name).toSorted((a, b) => rank(a) - rank(b));
}
