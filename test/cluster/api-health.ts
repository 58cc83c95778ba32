/** Owns asking one API server whether it is ready, with nothing but the credentials in a kubeconfig file of ours. */
import { readFile } from 'node:fs/promises';
import { request } from 'node:https';

/**
 * Makes a function that says whether the API server of that kubeconfig answers `/readyz` with 200. It opens a new
 * connection each time, so that an answer is about now, and it gives up on one question after two seconds.
 */
export async function makeReadyCheck(kubeconfig: string): Promise<() => Promise<boolean>> {
  const config = JSON.parse(await readFile(kubeconfig, 'utf8')) as {
    clusters: { cluster: Record<string, string> }[];
    users: { user: Record<string, string> }[];
  };
  const cluster = config.clusters[0]?.cluster ?? {};
  const user = config.users[0]?.user ?? {};
  const decode = (text: string | undefined) => Buffer.from(text ?? '', 'base64');
  const options = {
    ca: decode(cluster['certificate-authority-data']),
    cert: decode(user['client-certificate-data']),
    key: decode(user['client-key-data']),
    agent: false as const,
    timeout: 2000,
  };
  return () =>
    new Promise((resolve) => {
      const question = request(`${cluster['server']}/readyz`, options, (answer) => {
        answer.resume();
        resolve(answer.statusCode === 200);
      });
      question.on('timeout', () => question.destroy());
      question.on('error', () => resolve(false));
      question.end();
    });
}
