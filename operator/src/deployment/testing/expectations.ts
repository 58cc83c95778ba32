/** What tests on a real API server compare: conditions and versions of objects. */
import { expect } from 'vitest';
import type { KubeObject } from '../../kube/index.ts';

/** A condition as tests compare it. */
export function condition(type: string, status: string, reason?: string): object {
  return expect.objectContaining({ type, status, ...(reason === undefined ? {} : { reason }) }) as object;
}

/** Conditions among which these are. */
export function conditions(...expected: object[]): object {
  return expect.arrayContaining(expected) as object;
}

/** Everything of an object that only a write can change. */
export function versionOf(object: KubeObject | undefined): string | undefined {
  return object?.metadata?.resourceVersion;
}
