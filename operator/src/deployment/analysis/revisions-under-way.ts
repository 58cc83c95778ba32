/** Which revisions of a deployment are asked and measured now, by what its status says of the rollout. Pure. */
import type { SLMDeployment } from '@slm-operator/crds';
import type { AnalysisSubject } from './types.ts';

export interface UnderWay {
  /** Whom the smoke tests ask before it gets requests. */
  readonly candidate: string | undefined;
  /** Whose requests are judged. */
  readonly subject: AnalysisSubject | undefined;
  /** Whom the same tests ask on schedule: what serves while nothing comes. */
  readonly serving: string | undefined;
}

export function revisionsUnderWay({ status }: Pick<SLMDeployment, 'status'>): UnderWay {
  const { rollout, lastRollback, currentRevision, updateRevision } = status ?? {};
  const { revision, stableRevision, stepStartedAt } = rollout ?? {};
  if (revision === undefined || rollout?.phase === 'Idle') {
    return { candidate: undefined, subject: undefined, serving: currentRevision };
  }
  const isBack = lastRollback?.to === revision && lastRollback.revision === updateRevision;
  const stays = stableRevision === undefined && currentRevision === revision;
  const candidate = isBack || stays || stableRevision === revision ? undefined : revision;
  if (candidate === undefined) return { candidate, subject: undefined, serving: currentRevision };
  if (stableRevision === undefined) return { candidate, subject: undefined, serving: undefined };
  const since = stepStartedAt === undefined ? undefined : Date.parse(stepStartedAt);
  return { candidate, subject: { candidate, stable: stableRevision, since }, serving: undefined };
}
