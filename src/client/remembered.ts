/** What was read once, or is being read; a failure is not remembered. */
export function remembered<Key, Value>(
	known: Map<Key, Promise<Value>>,
	key: Key,
	read: () => Promise<Value>,
): Promise<Value> {
	const found = known.get(key);
	if (found !== undefined) return found;
	const reading = read();
	known.set(key, reading);
	reading.catch(() => known.delete(key));
	return reading;
}
