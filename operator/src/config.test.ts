import { describe, expect, test } from 'vitest';
import { readConfig } from './config.ts';

const env = { SLM_NAMESPACE: 'slm-system', SLM_IDENTITY: 'pod-1', SLM_SERVER_IMAGE: 'slm.dev/server:1' };

describe('the settings', () => {
  test('have defaults for all but three', () => {
    expect(readConfig(env)).toMatchObject({
      namespace: 'slm-system',
      hfEndpoint: 'https://huggingface.co',
      minFreePercent: 10,
      serverImages: { cpu: 'slm.dev/server:1' },
      hardwareOrder: ['npu', 'gpu', 'cpu'],
      waitForFit: true,
      lease: { durationSeconds: 15, renewSeconds: 10, retrySeconds: 2 },
      brokerHosts: [
        'slm-operator',
        'slm-operator.slm-system',
        'slm-operator.slm-system.svc',
        'slm-operator.slm-system.svc.cluster.local',
      ],
    });
  });

  test.each<[string, Record<string, string>, RegExp]>([
    ['a missing namespace', { SLM_NAMESPACE: '' }, /^SLM_NAMESPACE is not set: .*export SLM_NAMESPACE=/],
    ['an endpoint that is no address', { SLM_HF_ENDPOINT: 'hub' }, /^SLM_HF_ENDPOINT is "hub": write https:\/\/HOST/],
    ['an endpoint without encryption', { SLM_HF_ENDPOINT: 'http://hub' }, /SLM_HF_ENDPOINT_INSECURE=true/],
    ['a pull policy that is none', { SLM_SERVER_IMAGE_PULL_POLICY: 'Often' }, /write IfNotPresent, Always or Never/],
    ['a number out of bounds', { SLM_MIN_FREE_PERCENT: '99' }, /write a number from 0 to 95/],
    ['a flag that is none', { SLM_HF_ENDPOINT_INSECURE: 'yes' }, /write true or false/],
    ['server images that are no JSON', { SLM_SERVER_IMAGES: 'cuda' }, /^SLM_SERVER_IMAGES is no JSON/],
    ['an order with an unknown name', { SLM_HARDWARE_ORDER: 'gpu,tpu' }, /^SLM_HARDWARE_ORDER names "tpu": .*nvidia/],
    ['a profile with an unknown field', { SLM_HARDWARE_PROFILES: '{"amd":{"taint":1}}' }, /: amd\.taint: there is no/],
    ['an image that nobody has', { SLM_HARDWARE_PROFILES: '{"amd":{"image":"rocm"}}' }, /"rocm": write one of cpu, /],
    ['a wish that is no flag', { SLM_WAIT_FOR_FIT: 'never' }, /SLM_WAIT_FOR_FIT is "never": write true or false/],
  ])('%s is named', (_, more, message) => {
    expect(() => readConfig({ ...env, ...more })).toThrow(message);
  });
});
