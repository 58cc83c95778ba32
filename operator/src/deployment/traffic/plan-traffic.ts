/**
 * From where requests shall go to what must be written for it: labels that the Service selects by, and what open pods pass on. Pure.
 * Owns the order in which that is safe, from what was seen to be so and nothing else: the Service leads to open pods alone only once
 * every pod has a label; a pod is taken out only while another one serves; the candidate's address goes only when nobody uses it.
 */
import { annotations, labels, type TrafficSetting, trafficStates } from '@slm-operator/crds';
import { type PatchIntent, refTo } from '../../execution/plan.ts';
import { type PodObject, type ReplicaSetObject, revisionOf } from '../observed.ts';
import { isReady } from '../pod-causes.ts';
import { makeCandidateService } from '../resources/service.ts';
import {
  addressOf,
  isLiving,
  NOTHING,
  passesOn,
  revisionOfPod,
  selectsOpen,
  settingOf,
  stateOfPod,
  stateOfSet,
  type TrafficState,
} from './state.ts';
import type { TrafficDecision, TrafficInput, TrafficPlan } from './types.ts';

/** The plan for the traffic of one deployment. Writes nothing where nothing is closed, passed on or left over. */
export function planTraffic(input: TrafficInput): TrafficPlan {
  const { deployment, services, decision } = input;
  const living = input.pods.filter(isLiving);
  const opening = planOpening(input, living);
  const passing = planPassing(input, living);
  const why = opening.why ?? passing.why;
  return {
    apply: decision.weight === undefined ? [] : [makeCandidateService(deployment, decision.weight.candidate)],
    patch: [...opening.patch, ...passing.patch],
    remove:
      decision.weight === undefined && services.candidate !== undefined && passing.unused
        ? [refTo(services.candidate)]
        : [],
    selector: opening.selects ? { [labels.traffic]: trafficStates.open } : {},
    // The way back stays open for as long as somebody may be on it.
    egressToPeers: decision.weight !== undefined || services.candidate !== undefined,
    template: (revision) => ({
      labels: { [labels.traffic]: wantedState(decision, revision) },
      annotations: { [annotations.traffic]: NOTHING },
    }),
    separated: opening.separated,
    effective: opening.opened && passing.effective,
    why,
    unable: passing.unable,
  };
}

function wantedState({ closed }: TrafficDecision, revision: string): TrafficState {
  return closed.has(revision) ? trafficStates.closed : trafficStates.open;
}

interface Opening {
  readonly patch: readonly PatchIntent[];
  /** The Service leads to open pods alone. */
  readonly selects: boolean;
  readonly separated: boolean;
  /** Those that are to get requests are seen to get them. */
  readonly opened: boolean;
  readonly why: string | undefined;
}

/** Labels, and what the Service selects by. */
function planOpening({ sets, services, decision }: TrafficInput, pods: readonly PodObject[]): Opening {
  const selects = selectsOpen(services.main);
  const demanded = selects || decision.closed.size > 0;
  const patch: PatchIntent[] = [];
  let unlabelled = 0;
  const look = (state: TrafficState | undefined, wanted: TrafficState): boolean => {
    if (state === undefined && demanded) unlabelled++;
    return state !== wanted && (state !== undefined || demanded);
  };
  for (const set of sets) {
    const wanted = wantedState(decision, revisionOf(set));
    if (look(stateOfSet(set), wanted)) patch.push(labelSet(set, wanted));
  }
  // Seen to be open, and serving: what closes may rely on these.
  const serves = pods.some(
    (pod) => isReady(pod) && stateOfPod(pod) === trafficStates.open && !decision.closed.has(revisionOfPod(pod)),
  );
  let held: string | undefined;
  for (const pod of pods) {
    const wanted = wantedState(decision, revisionOfPod(pod));
    const state = stateOfPod(pod);
    if (!look(state, wanted)) continue;
    if (wanted === trafficStates.closed && isReady(pod) && !serves) {
      held = `revision ${revisionOfPod(pod)} gets requests until another one serves`;
      // A label all the same, without which the Service could not lead to open pods alone.
      if (state === undefined) patch.push(labelPod(pod, trafficStates.open));
    } else patch.push(labelPod(pod, wanted));
  }
  // Those that the Service leads to by every label, and those that have no label yet.
  const isOut = (state: TrafficState | undefined) => state === trafficStates.closed;
  const out =
    pods.every((pod) => !decision.closed.has(revisionOfPod(pod)) || isOut(stateOfPod(pod))) &&
    sets.every((set) => !decision.closed.has(revisionOf(set)) || isOut(stateOfSet(set)));
  const separated = decision.closed.size === 0 || (selects && out);
  const opened = pods.every((pod) => decision.closed.has(revisionOfPod(pod)) || !isOut(stateOfPod(pod)));
  return {
    patch,
    // Once it leads to open pods alone, one of them must serve.
    selects: selects || (demanded && unlabelled === 0 && (serves || !pods.some(isReady))),
    separated,
    opened,
    why: separated
      ? opened
        ? undefined
        : 'the Service is being told that it leads to more pods'
      : (held ??
        (unlabelled > 0
          ? 'pods are being labelled, so that the Service can tell revisions apart'
          : 'the Service is being told which revisions it leads to')),
  };
}

interface Passing {
  readonly patch: readonly PatchIntent[];
  readonly effective: boolean;
  /** Nobody uses the candidate's address any more. */
  readonly unused: boolean;
  readonly why: string | undefined;
  readonly unable: string | undefined;
}

/** What open pods pass on. */
function planPassing({ pods, services, decision, reports }: TrafficInput, living: readonly PodObject[]): Passing {
  const { weight } = decision;
  const address = addressOf(services.candidate);
  // Until the Service is that of this candidate, its address leads to another one.
  const leads = services.candidate?.spec?.selector?.[labels.revision] === weight?.candidate;
  const asked = weight !== undefined && weight.percent > 0;
  const setting =
    asked && address !== undefined && leads
      ? JSON.stringify({ weight: weight.percent, address, revision: weight.candidate } satisfies TrafficSetting)
      : NOTHING;
  const patch: PatchIntent[] = [];
  const unable: PodObject[] = [];
  let serving = 0;
  let following = 0;
  let problem: string | undefined;
  for (const pod of living) {
    const revision = revisionOfPod(pod);
    const passes = !decision.closed.has(revision) && revision !== weight?.candidate;
    const has = settingOf(pod);
    const wanted = passes ? setting : NOTHING;
    if (has !== undefined && has !== wanted) patch.push(annotatePod(pod, wanted));
    const report = reports.get(pod.metadata?.uid ?? '');
    if (passes && (has === undefined || (report !== undefined && report.traffic === undefined))) unable.push(pod);
    if (!isReady(pod)) continue;
    serving++;
    const expected = passes && asked ? weight.percent : undefined;
    if (has === wanted && report?.traffic?.weight === expected) following++;
    else if (has === undefined && expected === undefined) following++;
    problem ??= passes && asked ? report?.traffic?.problem : undefined;
  }
  const effective = (!asked || setting !== NOTHING) && following === serving && problem === undefined;
  // Those that go read nothing new; they end soon.
  const unused = !pods.some(passesOn) && !living.some((pod) => isReady(pod) && usesAddress(pod, reports));
  return {
    patch,
    effective,
    unused,
    why: effective ? undefined : (problem ?? progress(following, serving, asked)),
    unable: unableSentence(unable),
  };
}

function usesAddress(pod: PodObject, reports: TrafficInput['reports']): boolean {
  return reports.get(pod.metadata?.uid ?? '')?.traffic?.weight !== undefined;
}

function progress(following: number, serving: number, asked: boolean): string {
  const what = asked ? 'pass requests on as asked' : 'answer all their requests again';
  return `${following} of ${serving} pods ${what}`;
}

function unableSentence(pods: readonly PodObject[]): string | undefined {
  const [first] = pods;
  if (first === undefined) return undefined;
  const revision = revisionOfPod(first);
  const some = pods.length === 1 ? 'a pod' : `${pods.length} pods`;
  const cause =
    settingOf(first) === undefined
      ? 'made before pods could pass requests on'
      : 'with a server image from before servers could pass requests on';
  return `no part of the requests can be passed on by ${some} of revision ${revision}, ${cause}: roll out once with strategy Rolling, then weights can be had`;
}

/** These change nothing that anybody else decides about, so they hold whatever else was written meanwhile. */
function labelSet(set: ReplicaSetObject, state: TrafficState): PatchIntent {
  const metadata = { labels: { [labels.traffic]: state } };
  return { target: refTo(set), patch: { spec: { template: { metadata } } } };
}

function labelPod(pod: PodObject, state: TrafficState): PatchIntent {
  return { target: refTo(pod), patch: { metadata: { labels: { [labels.traffic]: state } } } };
}

function annotatePod(pod: PodObject, setting: string): PatchIntent {
  return {
    target: refTo(pod),
    patch: { metadata: { annotations: { [annotations.traffic]: setting } } },
  };
}
