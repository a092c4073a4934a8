/** Results that are kept; far more than a cluster has different questions. */
const limit = 1000;

/** A pure function of texts that takes long to answer, with its last answers remembered. */
export function remembered<Texts extends readonly string[], Answer>(
  compute: (...texts: Texts) => Answer,
): (...texts: Texts) => Answer {
  const answers = new Map<string, Answer>();
  return (...texts) => {
    const key = JSON.stringify(texts);
    if (answers.has(key)) return answers.get(key) as Answer;
    const answer = compute(...texts);
    answers.set(key, answer);
    const [oldest] = answers.keys();
    if (answers.size > limit && oldest !== undefined) answers.delete(oldest);
    return answer;
  };
}
