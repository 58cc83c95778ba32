import { describe, expect, it } from 'vitest';
import { amountOf, podRequests } from './amounts.ts';

describe('an amount', () => {
  it.each<[string, string | number, number]>([
    ['cpu', '500m', 500],
    ['cpu', '2', 2000],
    ['cpu', 2, 2000],
    ['cpu', '1.1', 1100],
    ['cpu', '100n', 1],
    ['memory', '24581684Ki', 24_581_684 * 1024],
    ['memory', '1Gi', 2 ** 30],
    ['memory', '1.5G', 1.5e9],
    ['memory', '128974848000m', 128974848],
    ['memory', '123e3', 123_000],
    ['memory', '16Ei', 2 ** 64],
    ['nvidia.com/gpu', '4', 4],
    ['memory', 'lots', 0],
  ])('of %s: %s is %d', (resource, quantity, expected) => {
    expect(amountOf(resource, quantity)).toBe(expected);
  });
});

const with_ = (cpu: string, more: Record<string, string> = {}) => ({ resources: { requests: { cpu, ...more } } });

/** As in the documentation of sidecars and of pod overhead. */
describe('a pod takes', () => {
  it.each<[string, Parameters<typeof podRequests>[0], Record<string, number>]>([
    ['a place, without requests', { containers: [{}] }, { pods: 1 }],
    ['the sum of its containers', { containers: [with_('1'), with_('500m')] }, { cpu: 1500, pods: 1 }],
    [
      'the largest init container where that is more',
      { containers: [with_('1')], initContainers: [with_('3'), with_('2')] },
      { cpu: 3000, pods: 1 },
    ],
    [
      'its sidecars besides',
      { containers: [with_('1')], initContainers: [{ ...with_('1'), restartPolicy: 'Always' }, with_('3')] },
      { cpu: 4000, pods: 1 },
    ],
    [
      'only the sidecars that began before an init container',
      { containers: [with_('1')], initContainers: [with_('3'), { ...with_('1'), restartPolicy: 'Always' }] },
      { cpu: 3000, pods: 1 },
    ],
    ['the overhead of its runtime', { containers: [with_('1')], overhead: { cpu: '250m' } }, { cpu: 1250, pods: 1 }],
    [
      'what it asks for as a whole, instead of the sum',
      { containers: [with_('1', { 'a.b/c': '1' })], resources: { requests: { cpu: '4' } } },
      { cpu: 4000, 'a.b/c': 1, pods: 1 },
    ],
    [
      'its limits, where it has no requests',
      { containers: [{ resources: { limits: { 'nvidia.com/gpu': '1', memory: '1Gi' } } }] },
      { 'nvidia.com/gpu': 1, memory: 2 ** 30, pods: 1 },
    ],
  ])('%s', (_, spec, expected) => {
    expect(podRequests(spec)).toEqual(expected);
  });
});
