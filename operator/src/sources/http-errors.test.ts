import { createServer } from 'node:net';
import { describe, expect, test } from 'vitest';
import { makeSourceClient } from './http.ts';
import { classifyHttpFailure, SourceError } from './http-errors.ts';

const url = 'https://user:hunter2@models.example.com/a/model.gguf?X-Amz-Signature=hunter2#part';

function answered(status: number, headers: Record<string, string> = {}, hasCredential = false) {
  return classifyHttpFailure({ status, headers }, { url, hasCredential, now: Date.parse('2026-01-01T00:00:00Z') });
}

function failed(code: string) {
  return classifyHttpFailure(Object.assign(new Error('boom'), { code }), { url, hasCredential: false });
}

describe('an answer that is no success', () => {
  test.each<[string, number, Record<string, string>, boolean, unknown]>([
    [
      '401 without a credential asks for one',
      401,
      {},
      false,
      {
        reason: 'Unauthorized',
        terminal: true,
        message:
          'https://models.example.com/a/model.gguf answers 401: it wants a credential. To give one, create a Secret with the key HF_TOKEN, bearer, or username and password and name it in source.secretRef',
      },
    ],
    [
      '403 with a credential speaks of the one in the Secret',
      403,
      {},
      true,
      {
        reason: 'Unauthorized',
        terminal: true,
        message:
          'https://models.example.com/a/model.gguf answers 403: the credential of source.secretRef is not accepted. Put one that is valid and may read this file into that Secret',
      },
    ],
    [
      'a gated repository asks for the licence to be accepted',
      403,
      { 'x-error-code': 'GatedRepo' },
      true,
      {
        reason: 'Unauthorized',
        terminal: true,
        message:
          'https://models.example.com/a/model.gguf answers 403: the repository is gated and the account of this token has no access. Accept its licence on the web page of the repository with that account',
      },
    ],
    [
      'a 401 for a repository that may not exist says both',
      401,
      { 'x-error-code': 'RepoNotFound' },
      false,
      {
        reason: 'NotFound',
        terminal: true,
        message:
          'https://models.example.com/a/model.gguf answers 401: there is no such repository, or it is private. Check the spelling of source.uri; for a private repository create a Secret with the key HF_TOKEN and name it in source.secretRef',
      },
    ],
    [
      '404',
      404,
      {},
      false,
      {
        reason: 'NotFound',
        terminal: true,
        message:
          'https://models.example.com/a/model.gguf answers 404: there is nothing at this address. Correct source.uri',
      },
    ],
    [
      '404 of a revision',
      404,
      { 'x-error-code': 'RevisionNotFound' },
      false,
      expect.objectContaining({ message: expect.stringContaining('no such branch, tag or commit') as string }),
    ],
    ['416', 416, {}, false, expect.objectContaining({ reason: 'Truncated', terminal: true })],
    [
      '429 keeps the time that the server asks for',
      429,
      { 'retry-after': '17' },
      false,
      expect.objectContaining({ reason: 'SourceUnavailable', terminal: false, retryAfterMs: 17_000 }),
    ],
    [
      '503 with a date',
      503,
      { 'retry-after': 'Thu, 01 Jan 2026 00:01:00 GMT' },
      false,
      expect.objectContaining({ reason: 'SourceUnavailable', terminal: false, retryAfterMs: 60_000 }),
    ],
    [
      'a wait without end is bounded by an hour',
      503,
      { 'retry-after': '99999999' },
      false,
      expect.objectContaining({ retryAfterMs: 3_600_000 }),
    ],
    ['a status that means nothing here', 418, {}, false, expect.objectContaining({ reason: 'SourceInvalid' })],
  ])('%s', (_, status, headers, hasCredential, expected) => {
    expect(answered(status, headers, hasCredential)).toEqual(expected);
  });
});

describe('no answer at all', () => {
  test.each<[string, string, boolean]>([
    ['ECONNREFUSED', 'ConnectionFailed', false],
    ['ECONNRESET', 'ConnectionFailed', false],
    ['UND_ERR_CONNECT_TIMEOUT', 'ConnectionFailed', false],
    ['UND_ERR_BODY_TIMEOUT', 'ConnectionFailed', false],
    ['EHOSTUNREACH', 'ConnectionFailed', false],
    ['ESOMETHING', 'ConnectionFailed', false],
    ['ENOTFOUND', 'NameResolutionFailed', false],
    ['EAI_AGAIN', 'NameResolutionFailed', false],
    ['DEPTH_ZERO_SELF_SIGNED_CERT', 'TLSUntrusted', true],
    ['SELF_SIGNED_CERT_IN_CHAIN', 'TLSUntrusted', true],
    ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'TLSUntrusted', true],
    ['CERT_HAS_EXPIRED', 'TLSUntrusted', true],
    ['ERR_TLS_CERT_ALTNAME_INVALID', 'TLSUntrusted', true],
    ['ERR_SSL_WRONG_VERSION_NUMBER', 'TLSUntrusted', true],
  ])('%s is %s', (code, reason, terminal) => {
    const failure = failed(code);
    expect(failure).toMatchObject({ reason, terminal });
    expect(failure.message).toContain(code);
    expect(failure.message).toMatch(/^https:\/\/models\.example\.com\/a\/model\.gguf: /);
    if (reason === 'TLSUntrusted') expect(failure.message).toContain('source.caBundleRef');
  });

  test('the code is found in causes and in the attempts of several addresses', () => {
    const inner = Object.assign(new Error(''), { code: 'ECONNREFUSED' });
    const failure = new TypeError('fetch failed', { cause: new AggregateError([inner]) });
    expect(classifyHttpFailure(failure, { url, hasCredential: false }).message).toContain('the connection is refused');
  });

  test('no message holds a user, a query or a credential', () => {
    for (const failure of [answered(401), answered(404), answered(503), failed('ECONNRESET'), failed('ENOTFOUND')]) {
      expect(failure.message).not.toContain('hunter2');
    }
  });

  test('an error that is classified already stays as it is', () => {
    const known = new SourceError({ reason: 'NotAModel', message: 'no', terminal: true });
    expect(classifyHttpFailure(known, { url, hasCredential: false })).toBe(known.failure);
  });
});

describe('against a real socket', () => {
  test('a closed port, an unknown host and a server that says nothing', async () => {
    const silent = createServer(() => undefined);
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const address = silent.address();
    const port = typeof address === 'object' ? address?.port : 0;
    const client = makeSourceClient({ insecure: true, headersTimeoutMs: 50, connectTimeoutMs: 2000 });
    const reasonOf = (target: string) =>
      client.fetch({ url: target }).then(
        () => 'answered',
        (error: unknown) => (error instanceof SourceError ? `${error.failure.reason} ${error.message}` : String(error)),
      );
    try {
      expect(await reasonOf('http://127.0.0.1:1/a.gguf')).toMatch(/^ConnectionFailed .*refused/);
      expect(await reasonOf('http://no-such-host.invalid/a.gguf')).toMatch(/^NameResolutionFailed /);
      expect(await reasonOf(`http://127.0.0.1:${port}/a.gguf`)).toMatch(/^ConnectionFailed .*UND_ERR_HEADERS_TIMEOUT/);
    } finally {
      await client.close();
      silent.close();
    }
  });
});
