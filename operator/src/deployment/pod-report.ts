/**
 * What one serving pod says of itself: asks `/readyz` once and reads the answer. Pods are other people's, so nothing of the
 * answer is believed but numbers and short words. Keeps nothing.
 */
import {
  type DeviceReport,
  hardwareClasses,
  ports,
  type ReadyReport,
  serverPaths,
  type TrafficReport,
} from '@slm-operator/crds';
import type { PodObject } from './observed.ts';
import { makePodRequest } from './pod-request.ts';

/** A pod on the same cluster answers within milliseconds; one that takes longer is asked again later. */
const TIMEOUT_MS = 2000;
/** Far more than a report takes. */
const MAX_BODY_BYTES = 64 * 1024;

/** Asks a pod; rejects when it does not answer in time or says nothing that can be read. */
export type AskPod = (place: PodPlace) => Promise<ReadyReport>;

export interface PodPlace {
  readonly ip: string;
  readonly port: number;
  readonly tls: boolean;
}

/** Where a pod answers; undefined before it has an address. */
export function placeOf(pod: PodObject, tls: boolean): PodPlace | undefined {
  const ip = pod.status?.podIP;
  return ip === undefined || ip === '' ? undefined : { ip, port: ports.ollama, tls };
}

/** Asks over HTTP. */
export function makeAskPod(): AskPod {
  const ask = makePodRequest(serverPaths.readyz, { timeoutMs: TIMEOUT_MS, maxBodyBytes: MAX_BODY_BYTES });
  return async (place) => {
    const { statusCode, text } = await ask(place);
    const report = readReport(text);
    if (report === undefined) throw new Error(`the pod answered ${statusCode} without a report`);
    return report;
  };
}

/** A report out of the body of an answer; undefined for what is none. Fields that make no sense are left out. */
export function readReport(text: string): ReadyReport | undefined {
  const body = parse(text);
  if (!isObject(body)) return undefined;
  const device = deviceOf(body['device']);
  return strip({
    device,
    tokensPerSecond: numberOf(body['tokensPerSecond']),
    running: numberOf(body['running']),
    idleSeconds: numberOf(body['idleSeconds']),
    reason: wordOf(body['reason'], 64),
    message: wordOf(body['message'], 512),
    traffic: trafficOf(body['traffic']),
  });
}

function deviceOf(value: unknown): DeviceReport | undefined {
  // Servers older than devices write a word here.
  if (!isObject(value)) return undefined;
  const kind = hardwareClasses.find((candidate) => candidate === value['class']);
  const backend = wordOf(value['backend'], 64);
  const name = wordOf(value['name'], 256);
  if (kind === undefined || backend === undefined || name === undefined) return undefined;
  return strip({
    class: kind,
    backend,
    name,
    memoryBytes: numberOf(value['memoryBytes']),
    layersOffloaded: wholeOf(value['layersOffloaded']),
    layers: wholeOf(value['layers']),
    executionProvider: wordOf(value['executionProvider'], 64),
  }) as DeviceReport;
}

function trafficOf(value: unknown): TrafficReport | undefined {
  if (!isObject(value)) return undefined;
  return strip({
    weight: numberOf(value['weight']),
    revision: wordOf(value['revision'], 63),
    problem: wordOf(value['problem'], 512),
  });
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function numberOf(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 && value <= 1e15 ? value : undefined;
}

function wholeOf(value: unknown): number | undefined {
  const number = numberOf(value);
  return number !== undefined && Number.isInteger(number) && number <= 1e6 ? number : undefined;
}

function wordOf(value: unknown, max: number): string | undefined {
  if (typeof value !== 'string') return undefined;
  // What breaks a line or a terminal has no place in a status.
  const clean = value.replace(/[\p{Cc}\p{Cf}]+/gu, ' ').trim();
  return clean === '' ? undefined : clean.slice(0, max);
}

function strip(fields: object): object {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
