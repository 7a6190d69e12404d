/**
 * Hosts in a policy: `name`, `name:port`, or `*.name` for any subdomain of a name, not the name itself. Names are compared as
 * URLs have them: lowercase, in punycode, IP addresses in their usual form.
 *
 * Ports: a pattern that allows and has no port means the default one. A pattern that denies or counts and has no port means
 * every port: nobody gets past it by another one.
 */

/**
 * @returns the pattern as URLs have hosts
 * @throws {TypeError} saying what to write
 */
export function parseHostPattern(text: string): string {
	const wrong = () =>
		new TypeError(
			`${JSON.stringify(text.slice(0, 100))} is no host: write "api.example.com", "api.example.com:8443" or "*.example.com"`,
		);
	const isWildcard = text.startsWith("*.");
	const name = isWildcard ? text.slice(2) : text;
	if (name === "" || /[\s/@?#\\%*]/.test(name) || /[.:]$/.test(name)) throw wrong();
	const url = `https://${name}/`;
	if (!URL.canParse(url)) throw wrong();
	const { host, hostname } = new URL(url);
	const isAddress = hostname.startsWith("[") || /^\d+(\.\d+){3}$/.test(hostname);
	if (host === "" || hostname.startsWith(".") || (isWildcard && isAddress)) throw wrong();
	return isWildcard ? `*.${host}` : host;
}

/** A host as it is counted: `API.example.com.` is the same one as `api.example.com`. */
export function hostOf(host: string): string {
	return host.toLowerCase().replace(/\.(?=$|:\d+$)/, "");
}

/** Whether one of the patterns allows this very host, with its port. */
export function isAmongHosts(patterns: readonly string[], host: string): boolean {
	return patterns.some((pattern) => matches(pattern, host));
}

/** Whether one of the patterns means this host, however it is written, and on any port where it names none. */
export function concernsHost(patterns: readonly string[], host: string): boolean {
	const whole = hostOf(host);
	const name = whole.replace(/:\d+$/, "");
	return patterns.some((pattern) => matches(pattern, whole) || matches(pattern, name));
}

function matches(pattern: string, host: string): boolean {
	if (!pattern.startsWith("*.")) return pattern === host;
	const suffix = pattern.slice(1);
	return host.length > suffix.length && host.endsWith(suffix);
}
