/** SLMRollout: in which order the deployments of a cluster take over new revisions. */
import type { Static } from 'typebox';
import { conditions, type ObjectMeta, observedGeneration } from './common.ts';
import { labelSelector } from './label-selector.ts';
import { boolean, duration, integer, list, mapOf, object, optional, text, time, word } from './schema.ts';

export const Wave = object(
  {
    name: text({
      max: 63,
      min: 1,
      pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$',
      description: 'Name of the wave, such as staging.',
      rules: [
        {
          rule: "self != 'others'",
          message: 'the wave of what no other wave matches is called others: take another name',
        },
      ],
    }),
    selector: optional(labelSelector('Labels of the deployments of this wave. Default: any.')),
    namespaceSelector: optional(labelSelector('Labels of their namespaces. Default: any.')),
    nodeSelector: optional(
      mapOf(text({ max: 63, description: 'Value of the label.' }), {
        max: 32,
        description: 'Labels that podTemplate.spec.nodeSelector of the deployments asks for. Default: any.',
      }),
    ),
    maxParallel: optional(
      integer({ minimum: 1, maximum: 10000, description: 'Deployments that move at the same time. Default: all.' }),
    ),
    soak: optional(
      duration(
        'How long the next wave waits when this one is done, such as 30m; it must be well then, too. Default 0s.',
      ),
    ),
    requireApproval: optional(
      boolean({ description: 'The wave begins only with revisions in spec.approvedRevisions. Default false.' }),
    ),
  },
  { description: 'Deployments that move together.' },
);
export type Wave = Static<typeof Wave>;

export const SLMRolloutSpec = object(
  {
    deploymentSelector: optional(labelSelector('Labels of the deployments that this rollout orders. Default: all.')),
    namespaceSelector: optional(labelSelector('Labels of their namespaces. Default: all.')),
    sources: optional(
      list(word(['ModelRevision', 'RuntimeImage'], { description: 'What is new.' }), {
        max: 2,
        min: 1,
        set: true,
        description:
          'What is brought in waves. ModelRevision: new bytes of a model. RuntimeImage: the server image of a new operator, which deployments take over only so. Default ModelRevision.',
      }),
    ),
    waves: list(Wave, {
      max: 32,
      min: 1,
      keys: ['name'],
      description:
        'In this order. A deployment belongs to the first that matches; what matches none comes last, as a wave of its own.',
    }),
    prePullAhead: optional(
      integer({
        minimum: 0,
        maximum: 32,
        description: 'Waves after the present one whose nodes pull the new bytes already. Default: all.',
      }),
    ),
    onFailure: optional(
      word(['Pause', 'RollbackWave', 'RollbackAll'], {
        description:
          'When more than maxFailed deployments of a wave fail. Pause: nothing more begins. RollbackWave: those of the wave go back. RollbackAll: those of all waves do. Default Pause.',
      }),
    ),
    maxFailed: optional(
      integer({ minimum: 0, maximum: 10000, description: 'Deployments of a wave that may fail. Default 0.' }),
    ),
    window: optional(
      object(
        {
          schedule: text({
            max: 128,
            min: 9,
            description: 'When it opens: five fields as cron has them, such as 0 22 * * 1-5.',
          }),
          timeZone: optional(text({ max: 64, min: 1, description: 'Such as Europe/Lisbon. Default UTC.' })),
          duration: duration('How long it stays open, such as 4h.'),
        },
        { description: 'Deployments begin to move only inside. What has begun goes on.' },
      ),
    ),
    approvedRevisions: optional(
      list(
        text({
          max: 512,
          min: 1,
          description: 'Revision of an SLMModel, as status.latestRevision.name, or a server image.',
        }),
        {
          max: 64,
          set: true,
          description: 'Revisions that waves with requireApproval may take: an approval in Git.',
        },
      ),
    ),
    paused: optional(boolean({ description: 'Nothing more begins; what has begun goes on. Default false.' })),
  },
  { description: 'In which order deployments take over new revisions.' },
);
export type SLMRolloutSpec = Static<typeof SLMRolloutSpec>;

const deploymentKey = text({ max: 320, description: 'NAMESPACE/NAME of an SLMDeployment.' });
const count = (description: string) => integer({ minimum: 0, description });

export const waveStates = [
  'Waiting',
  'WaitingForApproval',
  'WaitingForWindow',
  'Paused',
  'Running',
  'Soaking',
  'Done',
  'Failed',
  'RolledBack',
] as const;
export type WaveState = (typeof waveStates)[number];

const failureMessage = optional(
  text({ max: 256, description: 'Why it failed with that revision; absent: it did not.' }),
);
const before = optional(text({ max: 63, description: 'Revision that it had before.' }));

export const SLMRolloutStatus = object(
  {
    observedGeneration: optional(observedGeneration),
    conditions: optional(conditions),
    retry: optional(text({ max: 256, description: 'Annotation slm.dev/retry when failures were last forgotten.' })),
    wave: optional(text({ max: 63, description: 'Wave that is under way or waits.' })),
    progressText: optional(text({ max: 64, description: 'UPDATED/TOTAL for the UPDATED column.' })),
    statusText: optional(text({ max: 256, description: 'For the STATUS column.' })),
    waves: optional(
      list(
        object(
          {
            name: text({ max: 63, description: 'Name of the wave.' }),
            state: word(waveStates, { description: 'Where it is.' }),
            total: count('Deployments of the wave.'),
            updated: count('Those that have what they are to have, and are Ready.'),
            failed: count('Those that failed.'),
            completedAt: optional(time({ description: 'Since when all of it is well.' })),
            message: optional(text({ max: 512, description: 'What it waits for.' })),
          },
          { description: 'A wave.' },
        ),
        { max: 33, keys: ['name'], description: 'The waves.' },
      ),
    ),
    admitted: optional(
      list(
        object(
          {
            deployment: deploymentKey,
            revision: text({ max: 63, description: 'Revision of the deployment that it may take over.' }),
            from: before,
            failure: failureMessage,
          },
          { description: 'A deployment that may move.' },
        ),
        { max: 10000, atomic: true, description: 'Who may move, and to what.' },
      ),
    ),
    withdrawn: optional(
      list(
        object(
          {
            deployment: deploymentKey,
            revision: text({ max: 63, description: 'Revision of the deployment that it must leave.' }),
            to: before,
            failure: failureMessage,
          },
          { description: 'A deployment that goes back.' },
        ),
        { max: 10000, atomic: true, description: 'Who goes back, and from what.' },
      ),
    ),
  },
  { description: 'What is.' },
);
export type SLMRolloutStatus = Static<typeof SLMRolloutStatus>;

/** An order of waves. */
export interface SLMRollout {
  readonly apiVersion: string;
  readonly kind: 'SLMRollout';
  readonly metadata: ObjectMeta;
  readonly spec: SLMRolloutSpec;
  readonly status?: SLMRolloutStatus;
}
