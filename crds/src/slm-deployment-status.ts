/** What an SLMDeployment's status tells: what is, and what it waits for. */
import type { Static } from 'typebox';
import { conditions, observedGeneration } from './common.ts';
import { HardwareStatus } from './deployment-hardware.ts';
import { integer, list, object, optional, text, time, word } from './schema.ts';

export const BlockedBy = object(
  {
    reason: text({ max: 128, description: 'One word.' }),
    message: text({ max: 1024, description: 'What is missing and what to do.' }),
    since: time({ description: 'Since when.' }),
  },
  { description: 'Something that the deployment waits for.' },
);
export type BlockedBy = Static<typeof BlockedBy>;

export const GateResult = object(
  {
    name: text({ max: 80, description: 'errorRate, ttftP95, tokensPerSecond, or smoke/NAME.' }),
    result: word(['Passed', 'Failed', 'Waiting'], { description: 'What it says.' }),
    value: optional(text({ max: 64, description: 'Measured, with its unit.' })),
    baseline: optional(text({ max: 64, description: 'The same of the revision before.' })),
    message: optional(text({ max: 512, description: 'Why.' })),
  },
  { description: 'What a gate says.' },
);
export type GateResult = Static<typeof GateResult>;

export const SLMDeploymentStatus = object(
  {
    observedGeneration: optional(observedGeneration),
    conditions: optional(conditions),
    replicas: optional(integer({ minimum: 0, description: 'Pods that exist.' })),
    updatedReplicas: optional(integer({ minimum: 0, description: 'Pods of the update revision.' })),
    readyReplicas: optional(
      integer({ minimum: 0, description: 'Pods that are ready: verified, loaded, one token generated.' }),
    ),
    availableReplicas: optional(integer({ minimum: 0, description: 'Pods that are available.' })),
    selector: optional(
      text({ max: 512, description: 'Label selector of the pods, for kubectl scale and autoscalers.' }),
    ),
    modelName: optional(
      text({ max: 253, description: 'Name of the SLMModel; NAMESPACE/NAME of one in another namespace.' }),
    ),
    currentRevision: optional(text({ max: 63, description: 'Revision that all pods had when a rollout last ended.' })),
    updateRevision: optional(text({ max: 63, description: 'Revision that the spec asks for.' })),
    readyText: optional(text({ max: 32, description: 'READY/WANTED for the REPLICAS column.' })),
    statusText: optional(text({ max: 256, description: 'For the STATUS column: what it waits for, or what it does.' })),
    blockedBy: optional(list(BlockedBy, { max: 16, keys: ['reason'], description: 'What it waits for.' })),
    hardware: optional(HardwareStatus),
    endpoints: optional(
      object(
        {
          ollama: text({ max: 512, description: 'Base address for Ollama clients.' }),
          openai: text({ max: 512, description: 'Base address for OpenAI clients.' }),
        },
        { description: 'Where clients inside the cluster connect.' },
      ),
    ),
    apiKeySecret: optional(text({ max: 253, description: 'Secret that holds the API keys.' })),
    rollout: optional(
      object(
        {
          phase: word(
            [
              'Idle',
              'WaitingForModel',
              'WaitingForDevice',
              'WaitingForWave',
              'WaitingForApproval',
              'Progressing',
              'Analyzing',
              'Paused',
              'Stalled',
            ],
            { description: 'Where the rollout is.' },
          ),
          message: optional(text({ max: 1024, description: 'What it does now.' })),
          lastProgressTime: optional(
            time({ description: 'When a pod last came or went as planned; the deadline counts from here.' }),
          ),
          revision: optional(text({ max: 63, description: 'Revision that the steps below bring.' })),
          stableRevision: optional(
            text({ max: 63, description: 'Revision that it is measured against and goes back to.' }),
          ),
          step: optional(integer({ minimum: 1, maximum: 64, description: 'Step that it is in, from 1.' })),
          steps: optional(integer({ minimum: 1, maximum: 64, description: 'Steps that there are.' })),
          stepStartedAt: optional(time({ description: 'Since when the step is in effect.' })),
          weight: optional(
            integer({ minimum: 0, maximum: 100, description: 'Percent of the requests that the new revision gets.' }),
          ),
          analysis: optional(
            list(GateResult, { max: 24, keys: ['name'], description: 'What the gates of the step say.' }),
          ),
        },
        { description: 'The rollout.' },
      ),
    ),
    lastRollback: optional(
      object(
        {
          revision: text({ max: 63, description: 'Revision that was taken back.' }),
          to: optional(text({ max: 63, description: 'Revision that serves instead.' })),
          reason: text({ max: 128, description: 'One word.' }),
          message: text({ max: 1024, description: 'Why, with the numbers.' }),
          time: time({ description: 'When.' }),
          strategyHash: optional(
            text({
              max: 64,
              description: 'Hash of spec.strategy at that time; with another one the revision is tried again.',
            }),
          ),
          retry: optional(
            text({
              max: 256,
              description: 'Annotation slm.dev/retry at that time; with another value it is tried again.',
            }),
          ),
        },
        { description: 'The last revision that was taken back.' },
      ),
    ),
  },
  { description: 'What is.' },
);
export type SLMDeploymentStatus = Static<typeof SLMDeploymentStatus>;
