/** Load from inside the cluster: a pod that asks through the Service without pause and counts every request. */
import type { Lab } from './harness.ts';

export interface LoadResult {
  readonly sent: number;
  readonly answered: number;
  /** The first ten requests that were not answered completely. */
  readonly failures: readonly string[];
}

export interface Load {
  /** Requests answered so far. */
  answered(): Promise<number>;
  /** Ends the load and counts. */
  stop(): Promise<LoadResult>;
}

const script = `
const [url, key, model, workers] = process.argv.slice(1);
let stop = false, sent = 0, answered = 0; const failures = [];
process.on('SIGTERM', () => { stop = true; });
async function work() {
  while (!stop) {
    sent++;
    try {
      const r = await fetch(url + '/api/generate', { method: 'POST', headers: { authorization: 'Bearer ' + key, 'content-type': 'application/json' },
        body: JSON.stringify({ model, prompt: 'Count to ten.', options: { num_predict: 8, temperature: 0 } }) });
      const lines = (await r.text()).trim().split('\\n');
      if (r.status === 200 && JSON.parse(lines.at(-1)).done === true) answered++;
      else failures.push(r.status + ' ' + lines.at(-1).slice(0, 200));
    } catch (e) { failures.push(String(e.cause ?? e)); }
    if (answered % 10 === 0) console.log('answered ' + answered);
  }
}
await Promise.all(Array.from({ length: Number(workers) }, work));
console.log('RESULT ' + JSON.stringify({ sent, answered, failures: failures.slice(0, 10) }));
`;

/** Starts \`workers\` clients, each with one request at a time, in a pod of the server image. */
export async function startLoad(
  lab: Lab,
  options: { namespace: string; deployment: string; image: string; workers?: number },
): Promise<Load> {
  const { namespace, deployment, image } = options;
  const name = `load-${deployment}`;
  const key = await lab.apiKey(namespace, deployment);
  const url = `http://${deployment}.${namespace}.svc:11434`;
  await lab.apply({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace, name },
    spec: {
      restartPolicy: 'Never',
      automountServiceAccountToken: false,
      securityContext: { runAsNonRoot: true, runAsUser: 65532, seccompProfile: { type: 'RuntimeDefault' } },
      containers: [
        {
          name: 'load',
          image,
          imagePullPolicy: 'IfNotPresent',
          command: [
            'node',
            '--input-type=module',
            '-e',
            script,
            '--',
            url,
            key,
            deployment,
            String(options.workers ?? 2),
          ],
          securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
        },
      ],
    },
  });
  await lab.kubectl('-n', namespace, 'wait', '--for=condition=Ready', `pod/${name}`, '--timeout=60s');
  const logs = () => lab.kubectl('-n', namespace, 'logs', name);
  return {
    answered: async () => Number([...(await logs()).matchAll(/answered (\d+)/g)].at(-1)?.[1] ?? 0),
    async stop() {
      await lab.kubectl('-n', namespace, 'exec', name, '--', 'node', '-e', 'process.kill(1, "SIGTERM")');
      await lab.kubectl(
        '-n',
        namespace,
        'wait',
        '--for=jsonpath={.status.phase}=Succeeded',
        `pod/${name}`,
        '--timeout=60s',
      );
      const result = /RESULT (.*)/.exec(await logs())?.[1];
      await lab.kubectl('-n', namespace, 'delete', 'pod', name, '--wait=false');
      if (!result) throw new Error('the load pod ended without a result');
      return JSON.parse(result) as LoadResult;
    },
  };
}
