import { waitFor } from './wait-for.ts';

interface Reply {
  readonly id?: number;
  readonly method?: string;
  readonly params?: { readonly sessionId: string; readonly workerInfo: { readonly title: string } };
}

/**
 * Runs a script in a thread of another process that is being debugged, through the inspector protocol of Node.js, so that
 * what happens to that process is not prepared for by anything in it. The thread may not live to see the end of it.
 * @param url where its debugger listens, a WebSocket
 * @param thread the name of the thread
 */
export async function runInThread(url: string, thread: string, script: string): Promise<void> {
  const socket = new WebSocket(url);
  const sessions = new Map<string, string>();
  socket.addEventListener('message', ({ data }) => {
    const { method, params } = JSON.parse(String(data)) as Reply;
    if (method === 'NodeWorker.attachedToWorker' && params) sessions.set(params.workerInfo.title, params.sessionId);
  });
  await new Promise((resolve, reject) => {
    socket.addEventListener('open', resolve);
    socket.addEventListener('error', () => reject(new Error(`no debugger answers at ${url}`)));
  });
  let id = 0;
  const send = (method: string, params: object) => {
    id += 1;
    socket.send(JSON.stringify({ id, method, params }));
  };
  send('NodeWorker.enable', { waitForDebuggerOnStart: false });
  const isOf = ([title]: [string, string]) => title.includes(thread);
  const session = await waitFor(() => [...sessions].find(isOf)?.[1], { timeoutMs: 30_000, what: `thread ${thread}` });
  const message = JSON.stringify({ id: 1, method: 'Runtime.evaluate', params: { expression: script } });
  send('NodeWorker.sendMessageToWorker', { sessionId: session, message });
  socket.close();
}
