/** What an SLMDeployment says of hardware, and what its status tells of it. */
import type { Static } from 'typebox';
import { boolean, duration, integer, list, number, object, optional, text, time, word } from './schema.ts';

/** Classes of devices, the most special first. */
export const hardwareClasses = ['npu', 'gpu', 'cpu'] as const;
export type HardwareClass = (typeof hardwareClasses)[number];

const hardwareName = (description: string) =>
  text({ max: 32, min: 1, pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$', description });

/** `spec.hardware`. */
export const Hardware = object(
  {
    preferred: hardwareName(
      'npu, gpu, cpu, or the name of a profile of the operator’s configuration, such as nvidia or intel-npu. Pods go there first.',
    ),
    fallback: optional(
      list(hardwareName('A class or a profile.'), {
        max: 8,
        set: true,
        description: 'Where pods go when no preferred device is free, in this order. Default: cpu.',
      }),
    ),
    fallbackAfter: optional(
      duration('How long a pod waits for a device before it goes to the next in line, such as 90s or 5m. Default 2m.'),
    ),
    policy: optional(
      word(['Fallback', 'Never'], {
        description: 'Never: pods wait for the preferred hardware for as long as it takes. Default Fallback.',
      }),
    ),
    promoteBack: optional(
      word(['Never', 'WhenIdle'], {
        description:
          'WhenIdle: a pod that fell back and serves nobody at the moment is replaced by one on better hardware once some is free. Never: it stays until the next rollout. Default Never.',
      }),
    ),
    count: optional(integer({ minimum: 1, maximum: 16, description: 'Devices for each pod. Default 1.' })),
    minTokensPerSecond: optional(
      number({
        minimum: 0.1,
        maximum: 1000000,
        description:
          'A pod whose engine generates fewer tokens a second for one request at start is not ready. Default: no minimum.',
      }),
    ),
  },
  {
    description:
      'On which hardware pods run. Default: the best that is free and that the model has a file for, without waiting for any.',
    rules: [
      {
        rule: "!has(self.policy) || self.policy != 'Never' || !has(self.fallback) || size(self.fallback) == 0",
        message: 'hardware.policy is Never, so hardware.fallback could never be used: leave one of them out',
      },
      {
        rule: "!has(self.policy) || self.policy != 'Never' || !has(self.fallbackAfter)",
        message: 'hardware.policy is Never, so hardware.fallbackAfter could never be used: leave one of them out',
      },
      {
        rule: "!has(self.policy) || self.policy != 'Never' || !has(self.promoteBack) || self.promoteBack == 'Never'",
        message: 'hardware.policy is Never, so there is nothing to promote back from: leave out hardware.promoteBack',
      },
      {
        rule: '!has(self.fallback) || !self.fallback.exists(name, name == self.preferred)',
        message: 'hardware.fallback names the preferred hardware again: list only what comes after it',
      },
      {
        rule: "!has(self.count) || self.count == 1 || self.preferred != 'cpu'",
        message: 'hardware.count is a number of devices, and cpu is none: use resources.requests.cpu',
      },
    ],
  },
);
export type Hardware = Static<typeof Hardware>;

const deviceFields = {
  device: optional(text({ max: 256, description: 'Name of the device that the engine opened, as its driver says.' })),
  backend: optional(text({ max: 64, description: 'What computes there: CPU, CUDA, Vulkan and so on.' })),
  executionProvider: optional(text({ max: 64, description: 'ONNX Runtime’s execution provider, of ONNX models.' })),
  layersOffloaded: optional(integer({ minimum: 0, description: 'Layers that the device computes, of GGUF models.' })),
  layers: optional(integer({ minimum: 0, description: 'Layers that there are, the output layer included.' })),
  tokensPerSecond: optional(
    number({ minimum: 0, maximum: 1e9, description: 'What one request got when the engine started; the slowest pod.' }),
  ),
};

export const HardwareTier = object(
  {
    name: text({ max: 63, description: 'Profile, with what tells its resource from others of the profile.' }),
    class: word(hardwareClasses, { description: 'npu, gpu or cpu.' }),
    profile: text({ max: 32, description: 'Profile of the operator’s configuration.' }),
    variant: optional(
      text({ max: 63, description: 'Variant of the model that is served there. Absent: spec.source.' }),
    ),
    replicas: integer({ minimum: 0, description: 'Pods that are meant to be there.' }),
    readyReplicas: integer({ minimum: 0, description: 'Pods there that are ready.' }),
    ...deviceFields,
    waitingSince: optional(
      time({ description: 'Since when pods wait for a device there; fallbackAfter counts from here.' }),
    ),
    shortSince: optional(
      time({
        description:
          'Since when fewer pods can run there than were meant to; after fallbackAfter they go to the next in line.',
      }),
    ),
    freeSince: optional(
      time({ description: 'Since when there is room for pods on worse hardware, which promoteBack may bring back.' }),
    ),
    promotingSince: optional(time({ description: 'Since when such a pod is on its way.' })),
    failedSince: optional(
      time({ description: 'Since when pods are kept away, because those that were there could not run.' }),
    ),
    failedOn: optional(
      text({ max: 64, description: 'Hash of the nodes’ devices when that was; another one means another try.' }),
    ),
    message: optional(text({ max: 1024, description: 'Why no more pods are there.' })),
  },
  { description: 'Pods on one kind of hardware.' },
);
export type HardwareTier = Static<typeof HardwareTier>;

/** `status.hardware`. */
export const HardwareStatus = object(
  {
    class: optional(word(hardwareClasses, { description: 'Where most pods run.' })),
    profile: optional(text({ max: 32, description: 'Profile that most pods run on.' })),
    degraded: boolean({ description: 'Whether a pod runs on other hardware than preferred, or waits for it.' }),
    summary: text({ max: 64, description: 'For the HARDWARE column, for example "gpu" or "1 gpu, 2 cpu (fallback)".' }),
    message: text({ max: 1024, description: 'What runs where and why, in one sentence.' }),
    ...deviceFields,
    tiers: optional(
      list(HardwareTier, { max: 16, keys: ['name'], description: 'Every kind of hardware in line, the best first.' }),
    ),
  },
  { description: 'The hardware that pods have.' },
);
export type HardwareStatus = Static<typeof HardwareStatus>;
