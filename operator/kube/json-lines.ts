import { UnderstudyError } from '../../common/errors.ts';

/** Larger than any object that the API server stores (etcd's limit is 1.5 MiB), and small enough to hold. */
const maxLineBytes = 16 * 1024 * 1024;

/**
 * The JSON values of a stream that has one on each line. A last line without its end is dropped: it was cut off.
 * @throws UnderstudyError Protocol when a line is no JSON, or too long.
 */
export async function* readJsonLines(stream: ReadableStream<Uint8Array>): AsyncGenerator<unknown> {
  const decoder = new TextDecoder();
  const reader = stream.getReader();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + decoder.decode(value, { stream: true })).split('\n');
      rest = lines.pop() ?? '';
      if (rest.length > maxLineBytes) {
        throw new UnderstudyError('Protocol', `the API server sent a line of more than ${maxLineBytes} bytes`);
      }
      for (const line of lines) if (line.trim() !== '') yield parse(line);
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch (cause) {
    throw new UnderstudyError('Protocol', `the API server sent a line that is no JSON: ${line.slice(0, 80)}`, {
      cause,
    });
  }
}
