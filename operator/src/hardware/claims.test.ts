import { describe, expect, test } from 'vitest';
import { ApiError } from '../kube/errors.ts';
import { profilesHere } from './claims.ts';
import { builtInProfiles, readProfiles } from './profiles.ts';

const text = JSON.stringify({ dra: { class: 'gpu', claim: { deviceClasses: ['gpu.example.com'] }, image: 'cuda' } });
const profiles = readProfiles(text, 'values');

/** An API server that answers so. */
function serverThat(answer: () => Promise<unknown>) {
  const asked: string[] = [];
  const request = ({ path }: { path: string }) => {
    asked.push(path);
    return answer();
  };
  return { asked, client: { request: request as never } };
}
const refusing = (code: number) =>
  serverThat(() => Promise.reject(new ApiError({ status: code, message: 'no', request: 'GET' })));

describe('a profile that claims devices', () => {
  test('is used where the cluster knows claims', async () => {
    const { client, asked } = serverThat(() => Promise.resolve({}));
    expect(await profilesHere(client, profiles)).toBe(profiles);
    expect(asked).toEqual(['/apis/resource.k8s.io/v1']);
  });

  test('says where the cluster does not, and leaves the others alone', async () => {
    const here = await profilesHere(refusing(404).client, profiles);
    expect(here.get('dra')?.unusable).toBe(
      "hardware profile dra claims its devices, and this cluster has no resource.k8s.io/v1, which comes with Kubernetes 1.34: name the device plugin's resources in the chart's hardware.profiles.dra, or upgrade the cluster and restart the operator",
    );
    expect(here.get('nvidia')).toBe(profiles.get('nvidia'));
  });

  test('gets the benefit of the doubt while the API server cannot say', async () => {
    expect(await profilesHere(refusing(503).client, profiles)).toBe(profiles);
  });
});

test('nobody is asked where no profile claims anything', async () => {
  const { client, asked } = serverThat(() => Promise.resolve({}));
  await profilesHere(client, builtInProfiles());
  expect(asked).toEqual([]);
});
