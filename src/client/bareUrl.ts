/**
 * A URL as it may be shown: without name, password, query and fragment, which may hold keys.
 */
export function bareUrl(text: string): string {
	const url = new URL(text);
	url.username = "";
	url.password = "";
	url.search = "";
	url.hash = "";
	return url.href;
}
