import { defineConfig } from 'vitest/config';

// Four projects, one for each tier that needs something different around it. Which one runs is chosen by name:
// `vitest run --config test/vitest.config.ts --project unit`.
const root = new URL('..', import.meta.url).pathname;
const everywhere = ['crds', 'operator', 'runtime-image', 'test'];
const files = (suffix: string) => everywhere.map((folder) => `${folder}/**/*${suffix}`);
/** How long a test may wait for one thing, in ms. Long enough for a busy machine: a limit ends what hangs and measures nothing. */
const expect = { poll: { timeout: 20_000 } };
const ignored = ['**/node_modules/**', '**/dist/**'];

export default defineConfig({
  root,
  test: {
    projects: [
      {
        root,
        test: {
          name: 'unit',
          include: files('.test.ts'),
          exclude: [...ignored, '**/*.clients.test.ts', '**/*.apiserver.test.ts', '**/*.cluster.test.ts'],
          expect,
          testTimeout: 60_000,
          hookTimeout: 120_000,
        },
      },
      {
        root,
        test: {
          name: 'clients',
          include: files('.clients.test.ts'),
          exclude: ignored,
          expect,
          testTimeout: 60_000,
          hookTimeout: 300_000,
          fileParallelism: false,
        },
      },
      {
        root,
        test: {
          name: 'apiserver',
          include: files('.apiserver.test.ts'),
          exclude: ignored,
          expect,
          globalSetup: ['test/envtest/global-setup.ts'],
          testTimeout: 60_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
      {
        root,
        test: {
          name: 'cluster',
          include: files('.cluster.test.ts'),
          exclude: ignored,
          expect,
          globalSetup: ['test/e2e/global-setup.ts'],
          testTimeout: 300_000,
          hookTimeout: 600_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
