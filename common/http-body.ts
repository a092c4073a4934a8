import type { IncomingMessage } from 'node:http';
import { UnderstudyError } from './errors.ts';

/**
 * The whole body of an answer, as text. Destroys the answer when it is longer than it may be.
 * @throws UnderstudyError Protocol (too long); the error of the connection, if it ends before the body does
 */
export function readBody(response: IncomingMessage, maxBytes: number): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const pieces: Buffer[] = [];
  let received = 0;
  response.on('data', (piece: Buffer) => {
    received += piece.length;
    pieces.push(piece);
    if (received > maxBytes) {
      response.destroy(new UnderstudyError('Protocol', `an answer of more than ${maxBytes} bytes`));
    }
  });
  response.on('error', reject);
  response.on('end', () => resolve(Buffer.concat(pieces).toString('utf8')));
  return promise;
}
