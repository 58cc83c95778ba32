/**
 * Owns the API server that all `*.apiserver.test.ts` files of a run share. Tests take its kubeconfig by
 * `inject('kubeconfig')` or from SLM_TEST_KUBECONFIG, and keep apart by namespaces of their own. A test that stops or
 * pauses the API server starts one for itself instead, with `startControlPlane`.
 */
import type { TestProject } from 'vitest/node';
import { makeProgress } from '../cluster/progress.ts';
import { ensureTools } from '../cluster/tools.ts';
import { startControlPlane } from './control-plane.ts';
import { installCrds } from './crds.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** Path of a kubeconfig with all rights on the run's API server. */
    kubeconfig: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  // Here, where nothing has a time limit: from empty caches these take minutes to build.
  await ensureTools(['kubectl', 'helm'], makeProgress());
  const controlPlane = await startControlPlane({ controllerManager: true });
  await installCrds(controlPlane.kubeconfig);
  process.env['SLM_TEST_KUBECONFIG'] = controlPlane.kubeconfig;
  project.provide('kubeconfig', controlPlane.kubeconfig);
  return () => controlPlane.stop();
}
