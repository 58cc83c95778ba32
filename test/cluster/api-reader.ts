/** Owns asking an API server questions with nothing but a kubeconfig file that we wrote. Never writes to it. */
import { readFile } from 'node:fs/promises';
import { request } from 'node:https';

/** Asks one API server. */
export interface ApiReader {
  /** GETs a path: the parsed body, or undefined when there is no answer or its status is not 200. */
  get<T>(path: string): Promise<T | undefined>;
  /** Whether it is ready to serve. */
  isReady(): Promise<boolean>;
}

/**
 * Reads a kubeconfig of ours. Each question opens a new connection, so that an answer is about now, and is given up
 * after two seconds.
 */
export async function makeApiReader(kubeconfig: string): Promise<ApiReader> {
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
  const ask = (path: string) =>
    new Promise<string | undefined>((resolve) => {
      const question = request(`${cluster['server']}${path}`, options, (answer) => {
        let body = '';
        answer.setEncoding('utf8').on('data', (text: string) => (body += text));
        answer.on('end', () => resolve(answer.statusCode === 200 ? body : undefined));
        answer.on('error', () => resolve(undefined));
      });
      question.on('timeout', () => question.destroy());
      question.on('error', () => resolve(undefined));
      question.end();
    });
  return {
    async get<T>(path: string) {
      const body = await ask(path);
      return body === undefined ? undefined : (JSON.parse(body) as T);
    },
    isReady: async () => (await ask('/readyz')) !== undefined,
  };
}
