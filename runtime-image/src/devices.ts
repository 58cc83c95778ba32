/**
 * What the server may compute on: the order that SLM_DEVICE gives, and the sentences for when there is nothing of it. Pure; which
 * devices there are is the engines' to find out.
 */
import { cpus } from 'node:os';
import type { DeviceReport } from '@slm-operator/crds/contract';
import type { DeniedFile } from './device-files.ts';
import { StartupError } from './failures.ts';

export type DeviceClass = DeviceReport['class'];

/** Classes, and backends that compute on a device of one. */
const CLASSES = { npu: 'npu', gpu: 'gpu', cpu: 'cpu', cuda: 'gpu', vulkan: 'gpu', webgpu: 'gpu' } as const;

export type DeviceWord = keyof typeof CLASSES;

/** Devices in the order in which they are tried. Without `cpu` among them one of the others must be there. */
export interface DeviceOrder {
  readonly words: readonly DeviceWord[];
  /** Whether nobody asked for anything: then a computer without a GPU is nothing to speak of. */
  readonly auto: boolean;
}

/** Where nobody says what to compute on. */
export const AUTO: DeviceOrder = { words: ['gpu', 'cpu'], auto: true };

/** The class of a device by the word for it. */
export function classOf(word: DeviceWord): DeviceClass {
  return CLASSES[word];
}

/**
 * Reads `npu,gpu,cpu`, `cuda`, `auto` and the like.
 * @returns the order, or the word that is none
 */
export function parseDevices(value: string): DeviceOrder | { readonly unknown: string } {
  const words = value
    .toLowerCase()
    .split(',')
    .map((word) => word.trim());
  const [first = ''] = words;
  if (words.length === 1 && first === 'auto') return AUTO;
  // `auto` behind others is what is tried when they are not there.
  const all = words.flatMap((word): readonly string[] => (word === 'auto' ? AUTO.words : [word]));
  const unknown = all.find((word) => !(word in CLASSES));
  return unknown === undefined ? { words: [...new Set(all)] as DeviceWord[], auto: false } : { unknown };
}

/** Every word that may stand in the list. */
export const DEVICE_WORDS = Object.keys(CLASSES) as readonly DeviceWord[];

/** Whether the processor will do when nothing else is there. */
export function allowsCpu(order: DeviceOrder): boolean {
  return order.words.includes('cpu');
}

/** Something that was looked for in vain. */
export interface Missed {
  readonly why: string;
  /** Who has to look: the node's or the pod's keeper, or whoever chose the image. */
  readonly lacking: 'device' | 'permission' | 'image';
}

/**
 * For a server that was promised a device and has none: it would crawl on the processor otherwise, unnoticed.
 * @param missed what was looked for in vain
 */
export function deviceNotFound(order: DeviceOrder, missed: readonly Missed[]): StartupError {
  const is = (what: Missed['lacking']) => missed.some(({ lacking }) => lacking === what);
  let remedy = `set spec.image to one that computes on ${promised(order)}, or take other hardware.`;
  if (is('device'))
    remedy = 'does the device plugin run on this node, and has the pod the runtimeClassName that the driver needs?';
  if (is('permission')) remedy = 'name that group in supplementalGroups of the hardware profile.';
  return new StartupError(
    'DeviceNotFound',
    `promised ${promised(order)} (SLM_DEVICE=${order.words.join(',')}) and the engine found none, because ${list(missed)}: ${remedy}`,
  );
}

/** For a server that may compute on the processor, and does so for want of what was to be preferred. */
export function fellBack(order: DeviceOrder, missed: readonly Missed[]): string {
  return `computes on the CPU, because ${promised(order)} (SLM_DEVICE=${order.words.join(',')}) was not found: ${list(missed)}.`;
}

/**
 * For a backend whose libraries cannot be opened. A driver's come from the node, the others from the image.
 * @param said lines of the system's loader
 * @returns undefined where they are not the reason
 */
export function missingLibraries(title: string, said: string): Missed | undefined {
  const names = [...said.matchAll(/(lib[\w.+-]+\.so[\w.]*): cannot open shared object file/g)].map(
    ([, name = '']) => name,
  );
  const driver = names.find((name) => /^lib(?:cuda|vulkan)\.so/.test(name));
  if (driver !== undefined)
    return { why: `there is no ${title} driver (${driver} cannot be opened)`, lacking: 'device' };
  if (names.length === 0) return undefined;
  return { why: `${title} lacks ${[...new Set(names)].join(' and ')}`, lacking: 'image' };
}

/**
 * For a backend that works and sees nothing.
 * @param denied device files that are there and that the process may not open
 */
export function seesNothing(title: string, detail: string, denied: readonly DeniedFile[]): Missed {
  const [first] = denied;
  if (first)
    return {
      why: `${title} sees no device, since ${first.file} is open to group ${first.group} alone`,
      lacking: 'permission',
    };
  return { why: `${title} sees no device${detail === '' ? '' : ` (${detail})`}`, lacking: 'device' };
}

/** The processor as a device. */
export function processor(): DeviceReport {
  const name = cpus()[0]?.model.trim() ?? '';
  return { class: 'cpu', backend: 'CPU', name: name === '' || name === 'unknown' ? process.arch : name };
}

function promised({ words }: DeviceOrder): string {
  const classes = [...new Set(words.map(classOf))].filter((name) => name !== 'cpu');
  return classes.map((name) => `${name === 'npu' ? 'an' : 'a'} ${name}`).join(' or ');
}

function list(missed: readonly Missed[]): string {
  return [...new Set(missed.map(({ why }) => why))].join('; ');
}
