/**
 * Reads what the operator wrote on the pod about traffic. Pure. An address leads to what clients sent in confidence, so only a
 * plain `IP:PORT` is taken: a name would be somebody else's to answer.
 */
import { isIP } from 'node:net';
import type { TrafficSetting } from '@slm-operator/crds/contract';

/** Where requests are passed on to. */
export interface Target {
  /** 0 to 100. */
  readonly weight: number;
  /** Without brackets. */
  readonly host: string;
  readonly port: number;
  readonly revision: string;
}

/** Longest that a file is read: a setting is a line. */
const MAX_LENGTH = 4096;

/**
 * @param text of the annotation; empty, or `{}`: nothing is passed on
 * @returns undefined for nothing; a sentence for what cannot be read
 */
export function readSetting(text: string): Target | undefined | string {
  if (text.trim() === '' || text.trim() === '{}') return undefined;
  const value = text.length > MAX_LENGTH ? undefined : parse(text);
  if (typeof value !== 'object' || value === null) return 'it is no JSON object';
  const { weight, address, revision } = value as Partial<Record<keyof TrafficSetting, unknown>>;
  if (typeof weight !== 'number' || !(weight >= 0 && weight <= 100)) return 'its weight is no number from 0 to 100';
  if (typeof revision !== 'string' || !/^[\w.-]{1,63}$/.test(revision)) return 'its revision is none';
  const [, host = '', digits = ''] =
    /^\[?([^\]]*)\]?:(\d{1,5})$/.exec(typeof address === 'string' ? address : '') ?? [];
  const port = Number(digits);
  if (isIP(host) === 0 || port < 1 || port > 65_535) return 'its address is no IP:PORT';
  return { weight, host, port, revision };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
