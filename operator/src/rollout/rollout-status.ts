/** The status of an SLMRollout: where its waves are and what they wait for, in sentences. Pure; the only place that puts it together. */
import type { Condition, Reason, SLMRollout, SLMRolloutStatus } from '@slm-operator/crds';
import { formatDuration, listOf, shorten } from '../deployment/text.ts';
import { done, type EventIntent, type Outcome, stalled, waiting } from '../execution/plan.ts';
import { reconcileConditions, summaryConditions, toRfc3339 } from '../runtime/conditions.ts';
import type { WavePlan, WavesPlan } from './wave-planner.ts';
import type { WindowState } from './window.ts';

/** Bounds of the schema. */
const MAX_STATUS_TEXT = 256;
const MAX_MESSAGE = 512;

export interface RolloutStatusInput {
  readonly rollout: SLMRollout;
  readonly plan: WavesPlan;
  readonly window: WindowState;
  /** How many match and belong to another SLMRollout, by its name. */
  readonly elsewhere: ReadonlyMap<string, number>;
  /** Annotation slm.dev/retry. */
  readonly retry: string | undefined;
  /** Milliseconds since 1970. */
  readonly now: number;
}

export interface RolloutStatusResult {
  readonly status: SLMRolloutStatus;
  readonly outcome: Outcome;
  readonly events: readonly EventIntent[];
}

interface Line {
  readonly state: 'ready' | 'reconciling' | 'stalled';
  readonly reason: Reason;
  readonly message: string;
}

export function rolloutStatus(input: RolloutStatusInput): RolloutStatusResult {
  const { rollout, plan, now, retry } = input;
  const { metadata } = rollout;
  const previous = rollout.status;
  const line = lineOf(input);
  const total = plan.waves.reduce((sum, wave) => sum + wave.total, 0);
  const updated = plan.waves.reduce((sum, wave) => sum + wave.updated, 0);
  const status: SLMRolloutStatus = {
    observedGeneration: metadata.generation ?? 0,
    conditions: reconcileConditions(previous?.conditions, summaryConditions(line), {
      now,
      observedGeneration: metadata.generation,
    }) as Condition[],
    ...(retry === undefined ? {} : { retry }),
    ...(plan.wave === undefined ? {} : { wave: plan.wave }),
    progressText: `${updated}/${total}`,
    statusText: shorten(line.message, MAX_STATUS_TEXT),
    waves: plan.waves.map((wave) => {
      const message = messageOf(input, wave);
      return {
        name: wave.name,
        state: wave.state,
        total: wave.total,
        updated: wave.updated,
        failed: wave.failed.length,
        ...(wave.completedAt === undefined ? {} : { completedAt: toRfc3339(wave.completedAt) }),
        ...(message === undefined ? {} : { message: shorten(message, MAX_MESSAGE) }),
      };
    }),
    ...(plan.admitted.length === 0 ? {} : { admitted: [...plan.admitted] }),
    ...(plan.withdrawn.length === 0 ? {} : { withdrawn: [...plan.withdrawn] }),
  };
  const requeueAfter = wakeAfter(input);
  const outcome =
    line.state === 'reconciling' || requeueAfter !== undefined
      ? waiting(line.reason, line.message, requeueAfter)
      : line.state === 'stalled'
        ? stalled(line.reason, line.message)
        : done;
  return { status, outcome, events: eventsOf(previous, plan) };
}

/** The one sentence: what the present wave waits for. */
function lineOf(input: RolloutStatusInput): Line {
  const { plan, window } = input;
  if (window.state === 'unusable') return { state: 'stalled', reason: 'ScheduleInvalid', message: window.message };
  const total = plan.waves.reduce((sum, wave) => sum + wave.total, 0);
  if (total === 0) {
    const message = `no deployment matches spec.deploymentSelector and spec.namespaceSelector${elsewhereText(input)}`;
    return { state: 'ready', reason: 'NothingMatches', message };
  }
  const failed = plan.waves.find(({ state }) => state === 'Failed' || state === 'RolledBack');
  const broken = plan.waves.find(
    (wave) => wave.failed.length > 0 && (wave.state === 'Failed' || wave.state === 'RolledBack'),
  );
  if (failed !== undefined) {
    return { state: 'stalled', reason: 'WaveFailed', message: failureText(input, broken ?? failed) };
  }
  const present = plan.waves.find(({ state }) => state !== 'Done');
  if (present === undefined) {
    const tolerated = plan.waves.reduce((sum, wave) => sum + wave.failed.length, 0);
    const but = tolerated === 0 ? '' : `, but for ${tolerated} that failed`;
    const message = `all ${total} deployments have what they are to have${but}${elsewhereText(input)}`;
    return { state: 'ready', reason: 'RolloutComplete', message };
  }
  const message = `wave ${present.name}: ${messageOf(input, present) ?? 'under way'}`;
  return { state: 'reconciling', reason: reasonOf(present), message };
}

function reasonOf({ state }: WavePlan): Reason {
  switch (state) {
    case 'Paused':
      return 'Paused';
    case 'WaitingForApproval':
      return 'WaitingForApproval';
    case 'WaitingForWindow':
      return 'OutsideWindow';
    case 'Soaking':
      return 'Soaking';
    default:
      return 'WaveInProgress';
  }
}

/** What a wave waits for. No clock runs down in it: it changes when something happens. */
function messageOf(input: RolloutStatusInput, wave: WavePlan): string | undefined {
  const { plan, window } = input;
  const ready = `${wave.updated} of ${wave.total} have what they are to have`;
  switch (wave.state) {
    case 'Failed':
    case 'RolledBack':
      return wave.failed.length > 0 ? failureText(input, wave) : 'taken back along with a wave that failed';
    case 'Paused':
      return `${ready}; spec.paused is true: set it to false to go on`;
    case 'WaitingForApproval':
      return `${ready}; add ${listOf(wave.unapproved)} to spec.approvedRevisions to let it begin`;
    case 'WaitingForWindow': {
      const opens = window.state === 'closed' ? window.opens : undefined;
      return `${ready}; ${opens === undefined ? 'the window never opens again: correct spec.window' : `the window opens at ${toRfc3339(opens)}`}`;
    }
    case 'Soaking':
      return `done; the next may begin at ${toRfc3339(wave.soakedAt ?? 0)}`;
    case 'Waiting': {
      if (wave.waiting.length === 0) return `the models of ${listOf(wave.settling)} are being looked at`;
      const before = plan.waves[plan.waves.indexOf(wave) - 1];
      return `${ready}; waits for wave ${before?.name ?? 'before'}`;
    }
    case 'Running': {
      const parts = [ready];
      if (wave.moving.length > 0) parts.push(`${wave.moving.length} on the way: ${listOf(wave.moving)}`);
      if (wave.unwell.length > 0) parts.push(`not ready since: ${listOf(wave.unwell)}`);
      if (wave.unapproved.length > 0) parts.push(`not approved: ${listOf(wave.unapproved)}`);
      if (wave.settling.length > 0) parts.push(`models being looked at: of ${listOf(wave.settling)}`);
      return parts.join('; ');
    }
    default:
      return undefined;
  }
}

function failureText({ rollout, plan }: RolloutStatusInput, wave: WavePlan): string {
  const { onFailure = 'Pause', maxFailed = 0 } = rollout.spec;
  const [first] = wave.failed;
  const why = first === undefined ? '' : `: ${first}: ${plan.failures.get(first) ?? 'it failed'}`;
  const what = {
    Pause: 'nothing more begins',
    RollbackWave: 'its deployments go back',
    RollbackAll: 'all deployments go back',
  }[onFailure];
  const more = wave.failed.length > 1 ? ` (also ${listOf(wave.failed.slice(1))})` : '';
  return `${wave.failed.length} of ${wave.total} deployments of wave ${wave.name} failed, ${maxFailed} may; ${what}${shorten(why, 300)}${more}`;
}

function elsewhereText({ elsewhere }: RolloutStatusInput): string {
  const parts = [...elsewhere].map(([name, count]) => `${count} more belong to SLMRollout ${name}`);
  return parts.length === 0 ? '' : `; ${parts.join(', ')}`;
}

/** Milliseconds until time alone changes something. */
function wakeAfter({ plan, window, now }: RolloutStatusInput): number | undefined {
  const times: number[] = [];
  for (const { state, soakedAt } of plan.waves) if (state === 'Soaking' && soakedAt !== undefined) times.push(soakedAt);
  const waits = plan.waves.some(({ state, waiting: rest }) => isForWindow(state) && rest.length > 0);
  if (waits && window.state === 'closed' && window.opens !== undefined) times.push(window.opens);
  return times.length === 0 ? undefined : Math.max(1, Math.min(...times) - now);
}

/** Whether what waits in such a wave may begin once the window opens. */
function isForWindow(state: WavePlan['state']): boolean {
  return state === 'WaitingForWindow' || state === 'Running';
}

/** The beginning and the end of each wave, once. */
function eventsOf(previous: SLMRolloutStatus | undefined, plan: WavesPlan): EventIntent[] {
  return plan.waves.flatMap((wave): EventIntent[] => {
    const before = previous?.waves?.find(({ name }) => name === wave.name)?.state;
    if (before === wave.state) return [];
    const rest = wave.total - wave.updated;
    if (wave.state === 'Running' && before !== undefined && before !== 'Soaking' && rest > 0) {
      return [
        {
          reason: 'WaveInProgress',
          note: `wave ${wave.name} begins: ${rest} of ${wave.total} deployments are to move`,
        },
      ];
    }
    const wasMoving = before === 'Running' || before === 'Failed' || before === 'RolledBack';
    if ((wave.state === 'Soaking' || wave.state === 'Done') && wasMoving) {
      const soak = wave.soakedAt !== undefined && wave.completedAt !== undefined ? wave.soakedAt - wave.completedAt : 0;
      const then = soak > 0 && wave.state === 'Soaking' ? `; it soaks for ${formatDuration(soak / 1000)}` : '';
      return [
        {
          reason: 'WaveComplete',
          note: `wave ${wave.name} is done: ${wave.updated} of ${wave.total} deployments${then}`,
        },
      ];
    }
    if ((wave.state === 'Failed' || wave.state === 'RolledBack') && wave.failed.length > 0 && before !== 'RolledBack') {
      const first = wave.failed[0] ?? '';
      const why = `${first}: ${plan.failures.get(first) ?? 'it failed'}`;
      return [
        {
          type: 'Warning',
          reason: 'WaveFailed',
          note: `${wave.failed.length} deployments of wave ${wave.name} failed: ${why}`,
        },
      ];
    }
    return [];
  });
}
