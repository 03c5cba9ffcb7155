"""The plugins that come with the zoo. They use nothing that a third party could not use."""
