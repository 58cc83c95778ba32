/**
 * `status.hardware`: what runs where and why, in one sentence, and what the engines really opened. Owns its words, the
 * condition HardwareDegraded and the events of hardware. Pure.
 */
import type { HardwareStatus, HardwareTier, Reason, SLMDeployment } from '@slm-operator/crds';
import type { EventIntent } from '../execution/plan.ts';
import { namesOf } from '../hardware/tiers.ts';
import { type DesiredCondition, findCondition, toRfc3339 } from '../runtime/conditions.ts';
import { type Observed, type PodObject, tierOf } from './observed.ts';
import { isReady } from './pod-causes.ts';
import type { PodReport } from './pod-reports.ts';
import { listOf, shorten } from './text.ts';
import { type TierPlacement, type TierView, tierOfPod } from './tier-plan.ts';

/** Bounds of the schema. */
const MAX_SUMMARY = 64;
const MAX_MESSAGE = 1024;
const MAX_TIERS = 16;

export interface HardwareResult {
  readonly status: HardwareStatus | undefined;
  /** HardwareDegraded; undefined where the spec names no hardware. */
  readonly condition: DesiredCondition | undefined;
  readonly events: readonly EventIntent[];
}

type DeviceFields = Pick<
  HardwareTier,
  'device' | 'backend' | 'executionProvider' | 'layersOffloaded' | 'layers' | 'tokensPerSecond'
>;

/** @param placement undefined while nobody knows which revision is wanted: what was said before stays */
export function hardwareStatus(observed: Observed, placement: TierPlacement | undefined): HardwareResult {
  const { deployment } = observed;
  const previous = deployment.status?.hardware;
  if (placement === undefined) {
    const before = findCondition(deployment.status?.conditions, 'HardwareDegraded');
    return { status: previous && stillServing(previous, observed), condition: before, events: [] };
  }
  const entries = placement.views.map((view) => entryOf(view, placement, observed));
  const said = summarise(entries, placement, observed);
  const [main] = entries.filter(({ tier }) => tier.replicas > 0).toSorted((a, b) => b.tier.replicas - a.tier.replicas);
  const tiers = entries.filter(({ tier }) => !placement.auto || isTelling(tier)).map(({ tier }) => tier);
  const status: HardwareStatus = {
    ...(main === undefined ? {} : { class: main.tier.class, profile: main.tier.profile }),
    degraded: said.degraded,
    summary: shorten(said.summary, MAX_SUMMARY),
    message: shorten(said.message, MAX_MESSAGE),
    ...(main === undefined ? {} : deviceFieldsOf(main.tier)),
    ...(tiers.length === 0 ? {} : { tiers: tiers.slice(0, MAX_TIERS) }),
  };
  const condition = placement.auto ? undefined : degradedCondition(status, placement, deployment);
  return { status, condition, events: eventsOf(deployment, condition, said) };
}

/** A tier with how people call it. */
interface Entry {
  readonly tier: HardwareTier;
  /** As the spec names it. */
  readonly label: string;
  /** Not what the spec prefers. */
  readonly fallback: boolean;
  /** Pods that are meant to be there and cannot run for want of the device. */
  readonly stuck: number;
  /** Nodes that offer the device no more, with pods that serve there all the same. */
  readonly lost: string | undefined;
}

function entryOf(view: TierView, { plan, auto }: TierPlacement, observed: Observed): Entry {
  const { tier } = view;
  const { deployment, pods, reports } = observed;
  const before = deployment.status?.hardware?.tiers?.find(({ name }) => name === tier.name);
  const { message, failedOn, ...clocks } = plan.tiers.get(tier.name) ?? {};
  const times = Object.entries(clocks).filter(([, time]) => time !== undefined);
  const ready = pods.filter((pod) => tierOfPod(pod) === tier.name && isReady(pod));
  const names = deployment.spec.hardware === undefined ? undefined : namesOf(deployment.spec.hardware);
  return {
    label: names?.[tier.rank] ?? tier.class,
    fallback: !auto && tier.rank > 0,
    stuck: Math.min(view.trouble?.pods ?? 0, plan.targets.get(tier.name) ?? 0),
    lost: lostDevices(view, ready, observed),
    tier: {
      name: tier.name,
      class: tier.class,
      profile: tier.profile.name,
      ...(tier.bytes.variant === undefined ? {} : { variant: tier.bytes.variant }),
      replicas: plan.targets.get(tier.name) ?? 0,
      readyReplicas: readyOn(tier.name, observed),
      ...openedBy(ready, reports, before),
      ...Object.fromEntries(times.map(([name, time]) => [name, toRfc3339(time as number)])),
      ...(failedOn === undefined ? {} : { failedOn }),
      ...(message === undefined ? {} : { message: shorten(message, MAX_MESSAGE) }),
    },
  };
}

function readyOn(tier: string, { replicaSets }: Observed): number {
  return replicaSets
    .filter((set) => tierOf(set) === tier)
    .reduce((sum, set) => sum + (set.status?.readyReplicas ?? 0), 0);
}

/** What was said before, with the pods that are ready now. */
function stillServing(before: HardwareStatus, observed: Observed): HardwareStatus {
  const tiers = before.tiers?.map((tier) => ({ ...tier, readyReplicas: readyOn(tier.name, observed) }));
  return { ...before, ...(tiers === undefined ? {} : { tiers }) };
}

/** Whether a tier that nobody asked for is worth a line: it has pods, or a clock that must be kept. */
function isTelling({ replicas, readyReplicas, ...rest }: HardwareTier): boolean {
  return (
    replicas > 0 ||
    readyReplicas > 0 ||
    rest.shortSince !== undefined ||
    rest.failedSince !== undefined ||
    rest.waitingSince !== undefined
  );
}

/**
 * What the engines opened, by the slowest pod. Before all have said it, as after a start of the operator, what was known
 * stays: it would change and change back.
 */
function openedBy(
  ready: readonly PodObject[],
  reports: ReadonlyMap<string, PodReport>,
  before: HardwareTier | undefined,
): DeviceFields {
  if (ready.length === 0) return {};
  const said = ready
    .toSorted((a, b) => ((a.metadata?.name ?? '') < (b.metadata?.name ?? '') ? -1 : 1))
    .flatMap((pod) => {
      const report = reports.get(pod.metadata?.uid ?? '');
      return report?.device === undefined ? [] : [report];
    });
  const known = before === undefined ? {} : deviceFieldsOf(before);
  if (said.length < ready.length && known.device !== undefined) return known;
  const [slowest] = said.toSorted((a, b) => (a.tokensPerSecond ?? Infinity) - (b.tokensPerSecond ?? Infinity) || 0);
  if (slowest?.device === undefined) return {};
  const { name, backend, executionProvider, layersOffloaded, layers } = slowest.device;
  const { tokensPerSecond } = slowest;
  return strip({
    device: name,
    backend,
    executionProvider,
    layersOffloaded,
    layers,
    tokensPerSecond: tokensPerSecond === undefined ? undefined : Math.round(tokensPerSecond * 10) / 10,
  });
}

function deviceFieldsOf(tier: HardwareTier): DeviceFields {
  const { device, backend, executionProvider, layersOffloaded, layers, tokensPerSecond } = tier;
  return strip({ device, backend, executionProvider, layersOffloaded, layers, tokensPerSecond });
}

function strip(fields: { readonly [Key in keyof DeviceFields]: DeviceFields[Key] | undefined }): DeviceFields {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

/** A plugin that ended takes no device away from a pod that has it, but the next pod will get none there. */
function lostDevices({ tier }: TierView, ready: readonly PodObject[], { nodes }: Observed): string | undefined {
  const { resource } = tier;
  if (resource === undefined) return undefined;
  const names = [...new Set(ready.map((pod) => pod.spec?.nodeName ?? ''))]
    .filter((name) => {
      const node = nodes.find((candidate) => candidate.name === name);
      return node !== undefined && (node.allocatable[resource] ?? 0) < tier.count;
    })
    .sort();
  if (names.length === 0) return undefined;
  const [verb, who] = names.length === 1 ? ['offers', 'there goes on'] : ['offer', 'there go on'];
  return `${names.length === 1 ? 'node' : 'nodes'} ${listOf(names)} ${verb} no ${resource} any more; what serves ${who} as long as it runs`;
}

interface Said {
  readonly degraded: boolean;
  readonly summary: string;
  readonly message: string;
  readonly lost: string | undefined;
  /** Why no pods are sent to hardware that they could not run on. */
  readonly failure: string | undefined;
}

function summarise(entries: readonly Entry[], { plan, problems, auto }: TierPlacement, observed: Observed): Said {
  const { hardware, replicas = 1 } = observed.deployment.spec;
  const used = entries.filter(({ tier, stuck }) => tier.replicas > stuck);
  const fellBack = used.some(({ fallback }) => fallback);
  const waiting = entries.reduce((sum, { stuck }) => sum + stuck, plan.waiting);
  const lost = entries.find((entry) => entry.lost !== undefined)?.lost;
  const more = [...problems.map(({ message }) => message), ...(lost === undefined ? [] : [lost])];
  if (replicas === 0) {
    return {
      degraded: false,
      summary: 'none',
      message: ['replicas is 0: nothing runs', ...more].join('; '),
      lost,
      failure: undefined,
    };
  }
  const groups = new Map<string, { count: number; fallback: boolean; devices: string[] }>();
  for (const { label, fallback, tier, stuck } of used) {
    const group = groups.get(label) ?? { count: 0, fallback, devices: [] };
    group.count += tier.replicas - stuck;
    if (tier.device !== undefined) group.devices.push(deviceText(tier));
    groups.set(label, group);
  }
  const alone = groups.size === 1 && waiting === 0;
  const columns = Array.from(groups, ([label, { count, fallback }]) => {
    const suffix = fallback ? ' (fallback)' : '';
    return alone ? `${label}${suffix}` : `${count} ${label}${suffix}`;
  });
  if (waiting > 0 && groups.size > 0) columns.push(`${waiting} waiting`);
  if (groups.size === 0) columns.push(auto ? 'waiting' : `waiting for ${hardware?.preferred}`);

  const places = Array.from(groups, ([label, { count, devices }], index) => {
    const what = devices.length === 0 ? '' : ` (${[...new Set(devices)].join('; ')})`;
    return `${count}${index === 0 ? (count === 1 ? ' pod' : ' pods') : ''} on ${label}${what}`;
  });
  if (waiting > 0) {
    places.push(
      `${waiting}${places.length === 0 ? (waiting === 1 ? ' pod' : ' pods') : ''} ${waiting === 1 ? 'waits' : 'wait'}`,
    );
  }
  const [problem] = problems;
  const failure = entries.find(({ tier }) => tier.failedSince !== undefined)?.tier.message;
  const why =
    waiting > 0
      ? (plan.blocked[0]?.message ?? problem?.message)
      : fellBack
        ? (whyNotBetter(entries) ?? problem?.message)
        : failure;
  const message = [
    `${places.join(', ')}${why === undefined ? '' : `: ${why}`}`,
    ...more.filter((text) => text !== why),
  ];
  return {
    degraded: !auto && (waiting > 0 || fellBack),
    summary: columns.join(', '),
    message: message.join('; '),
    lost,
    failure,
  };
}

/** `NVIDIA L4, CUDA`. */
function deviceText({ device, backend, executionProvider }: HardwareTier): string {
  return [device, executionProvider ?? backend].filter((text) => text !== undefined).join(', ');
}

/** What the best hardware without enough pods says of itself. */
function whyNotBetter(entries: readonly Entry[]): string | undefined {
  const worst = entries.findLastIndex(({ tier }) => tier.replicas > 0);
  return entries.slice(0, worst).find(({ tier }) => tier.message !== undefined)?.tier.message;
}

function degradedCondition(
  { degraded, message, tiers }: HardwareStatus,
  { plan, problems, views }: TierPlacement,
  { spec }: SLMDeployment,
): DesiredCondition {
  if (!degraded) return { type: 'HardwareDegraded', status: 'False', reason: 'OnPreferredHardware', message };
  const unusable = problems.find(({ name }) => name === spec.hardware?.preferred);
  const fellBack = views.some(
    ({ tier }) => tier.rank > 0 && (tiers?.find(({ name }) => name === tier.name)?.replicas ?? 0) > 0,
  );
  const waits = plan.blocked[0]?.reason ?? 'WaitingForDevice';
  const reason: Reason = unusable?.reason ?? (fellBack ? 'FellBack' : waits);
  return { type: 'HardwareDegraded', status: 'True', reason, message };
}

function eventsOf(
  { status }: SLMDeployment,
  condition: DesiredCondition | undefined,
  { lost, failure, message }: Said,
): EventIntent[] {
  const events: EventIntent[] = [];
  const before = findCondition(status?.conditions, 'HardwareDegraded');
  const was = before?.status === 'True' ? before.reason : undefined;
  // Waits are told of as what they are blocked by.
  if (condition?.status === 'True' && condition.reason === 'FellBack' && was !== 'FellBack') {
    events.push({ type: 'Warning', reason: 'FellBack', note: condition.message });
  }
  // Who names no hardware is never degraded, but wants to know why the better is left out.
  if (condition === undefined && failure !== undefined && status?.hardware?.message.includes(failure) !== true) {
    events.push({ type: 'Warning', reason: 'FellBack', note: message });
  }
  if (lost !== undefined && status?.hardware?.message.includes(lost) !== true) {
    events.push({ type: 'Warning', reason: 'DeviceLost', note: lost });
  }
  return events;
}
